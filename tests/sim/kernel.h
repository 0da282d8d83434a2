/* SPDX-License-Identifier: MIT */
#ifndef TESTS_SIM_KERNEL_H
#define TESTS_SIM_KERNEL_H

void sim_kernel_open(void);
/* Descriptors that the client has not closed. */
unsigned sim_kernel_open_sockets(void);

#endif
