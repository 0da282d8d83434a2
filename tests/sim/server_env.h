/* SPDX-License-Identifier: MIT */
/*
 * Goes before every source of the memory server's library in the simulation: its random numbers
 * follow from the seed, and the thread that wipes freed slabs is never started (whoever takes a
 * slab that was not wiped wipes it himself, which is part of the server).
 */
#ifndef TESTS_SIM_SERVER_ENV_H
#define TESTS_SIM_SERVER_ENV_H

#include <pthread.h>
#include <sys/random.h>
#include <sys/types.h>

ssize_t sim_server_random(void *p, size_t n);
int sim_server_thread(pthread_t *t, void *(*fn)(void *), void *arg);

#define getrandom(p, n, flags)        sim_server_random(p, n)
#define pthread_create(t, a, fn, arg) sim_server_thread(t, fn, arg)
#define pthread_join(t, ret)          ((void)(t), (void)(ret))

#endif
