/* SPDX-License-Identifier: MIT */
/* The steps of `infuse run` before the command takes its place. */
#ifndef CLI_RUN_H
#define CLI_RUN_H

#include <stddef.h>
#include <stdint.h>

/* As env(1) and the shells have it; the command's own status is none of these by good custom. */
enum run_status {
	RUN_FAILED = 125, /* infuse run itself */
	RUN_CANT = 126,   /* the command is there, but can't be run so */
	RUN_NOT_FOUND = 127,
};

/*
 * run_program.c: may this program be run with a library preloaded? Follows #! lines. 0, or
 * RUN_CANT or RUN_NOT_FOUND with the words set. [text]
 */
int run_check_program(const char *name);

/*
 * run_server.c: starts a memory server for this process and what it starts, and a keeper that ends
 * it and removes its folder when all of them are gone. Blocks until the server is ready. address:
 * where it is. [text]
 */
int run_server_start(uint64_t size_bytes, char *address, size_t len);

/*
 * run_follow.c: leaves a keeper behind that follows the registry for this process and what it starts.
 * file: where the addresses of new donors will be (libinject/donor_file.c). [text]
 */
int run_follow_start(const char *registry, uint64_t refresh_ns, char *file, size_t len);

#endif
