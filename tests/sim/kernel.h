/* SPDX-License-Identifier: MIT */
#ifndef TESTS_SIM_KERNEL_H
#define TESTS_SIM_KERNEL_H

#include <stdbool.h>
#include <stdint.h>

void sim_kernel_open(void);
/* Descriptors that the client has not closed. */
unsigned sim_kernel_open_sockets(void);

/* For disk.c: a descriptor that polls as readable or not; who waits for it is woken. */
int sim_kernel_event(void);
void sim_kernel_event_is(int fd, bool ready);
/* Bytes of a spill file. */
unsigned char *sim_kernel_file(int fd, uint64_t at, uint64_t bytes);

/* disk.c: nothing is under way. */
void sim_disk_open(void);
/* The file is closed: what is still to land there is forgotten. */
void sim_disk_forget(int fd);

#endif
