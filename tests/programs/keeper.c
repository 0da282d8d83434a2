/* SPDX-License-Identifier: MIT */
/*
 * Keeps known words in a heap, nearly all of them at donors: keeper DONOR MIB [seal]. Says "kept" when
 * they are there, waits for a line, and looks whether all are as they were.
 */
#include <infuse/inject.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void words(char *page, size_t number)
{
	memset(page, 0, INJECT_PAGE_SIZE);
	for (size_t at = 0; at < INJECT_PAGE_SIZE; at += 64)
		snprintf(page + at, 64, "KNOWN PLAINTEXT of page %zu, line %zu", number, at / 64);
}

int main(int argc, char **argv)
{
	const char *donor = argc > 1 ? argv[1] : "";
	size_t pages = argc > 2 ? strtoul(argv[2], NULL, 10) * 256 : 0;
	struct inject_options o = {.size = sizeof o,
				   .name = "keeper",
				   .donors = &donor,
				   .donors_count = 1,
				   .heap_bytes = 64 << 20, /* cores have all of it */
				   .local_bytes = 1 << 20,
				   .prefetch = "none",
				   .seal = argc > 3 && !strcmp(argv[3], "seal"),
				   .mode = INJECT_MODE_SIGBUS};
	struct inject_heap *heap;
	char want[INJECT_PAGE_SIZE] = "", *mem;

	if (!pages)
		return 2;
	if (inject_open(&o, &heap) ||
	    inject_alloc(heap, pages * INJECT_PAGE_SIZE, (void **)&mem)) {
		fprintf(stderr, "keeper: %s\n", inject_error());
		return 1;
	}
	for (size_t i = 0; i < pages; i++) {
		words(want, i);
		memcpy(mem + i * INJECT_PAGE_SIZE, want, sizeof want);
	}
	puts("kept");
	fflush(stdout);
	if (getchar() == EOF)
		return 1;
	for (size_t i = 0; i < pages; i++) {
		words(want, i);
		if (memcmp(mem + i * INJECT_PAGE_SIZE, want, sizeof want)) {
			printf("page %zu is another\n", i);
			return 1;
		}
	}
	puts("all pages were there");
	inject_close(heap);
	return 0;
}
