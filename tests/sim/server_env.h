/* SPDX-License-Identifier: MIT */
/*
 * Goes before every source of the memory server's library in the simulation: its random numbers
 * follow from the seed, and the thread that wipes freed slabs is never started (whoever takes a
 * slab that was not wiped wipes it himself, which is part of the server). What it allocates is counted, and
 * may be refused (memory.c).
 */
#ifndef TESTS_SIM_SERVER_ENV_H
#define TESTS_SIM_SERVER_ENV_H

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/types.h>

ssize_t sim_server_random(void *p, size_t n);
int sim_server_thread(pthread_t *t, void *(*fn)(void *), void *arg);

void *sim_malloc(size_t n);
void *sim_calloc(size_t n, size_t size);
void *sim_aligned_alloc(size_t alignment, size_t n);
void sim_free(void *p);
int sim_memfd(const char *name, unsigned flags);
void *sim_mmap(void *at, size_t n, int prot, int flags, int fd, off_t offset);
int sim_munmap(void *p, size_t n);

/* (donor.c is no part of the server.) */
#ifndef SIM_OWN_MEMORY
#define malloc(n)                          sim_malloc(n)
#define calloc(n, size)                    sim_calloc(n, size)
#define aligned_alloc(alignment, n)        sim_aligned_alloc(alignment, n)
#define free(p)                            sim_free(p)
#define memfd_create(name, flags)          sim_memfd(name, flags)
#define mmap(at, n, prot, flags, fd, off)  sim_mmap(at, n, prot, flags, fd, off)
#define munmap(p, n)                       sim_munmap(p, n)
#endif

#define getrandom(p, n, flags)        sim_server_random(p, n)
#define pthread_create(t, a, fn, arg) sim_server_thread(t, fn, arg)
#define pthread_join(t, ret)          ((void)(t), (void)(ret))

#endif
