/* SPDX-License-Identifier: MIT */
/*
 * libinject: heaps whose pages live in the memory of other nodes. A heap keeps a bounded number of
 * pages locally; the rest is fetched when touched. Pointers into a heap are ordinary pointers.
 *
 *	struct inject_heap *heap;
 *	double *a;
 *	if (inject_open(&(struct inject_options){.size = sizeof(struct inject_options),
 *						 .local_bytes = 1ull << 30}, &heap) ||
 *	    inject_alloc(heap, 8ull << 30, (void **)&a))
 *		errx(1, "%s", inject_error());
 *
 * All functions return 0 or a negative errno; inject_error() then has the words. They may be called
 * from several threads, but not from signal handlers. A heap's functions may block on the network,
 * each wait bounded by the deadline. libinject(3) is the manual.
 */
#ifndef INFUSE_INJECT_H
#define INFUSE_INJECT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define INJECT_PAGE_SIZE 4096u

#if defined(__GNUC__)
#define INJECT_API __attribute__((visibility("default")))
#else
#define INJECT_API
#endif

struct inject_heap;

enum inject_mode {
	INJECT_MODE_DEFAULT, /* INJECT_MODE_HANDLER where the kernel allows it, else SIGBUS */
	/* The faulting thread fetches its page itself. The fastest; but a system call on a page that
	 * is not local, or that writes to one which was only read so far, fails with EFAULT:
	 * inject_pin() buffers first. Works without privileges. */
	INJECT_MODE_SIGBUS,
	/* Handler threads, one pinned to each core, serve every fault, also those in system calls. */
	INJECT_MODE_HANDLER,
};

/* Why a page can't be had: its donor is gone, was too slow, or sent wrong bytes. */
struct inject_failure {
	const void *address; /* page that was wanted, or NULL when a write-back failed */
	int error;           /* negative errno */
	const char *donor;   /* its address */
	const char *heap;    /* the heap's name */
	const char *text;    /* one line for people, names all of it */
};

struct inject_options {
	size_t size;                /* sizeof(struct inject_options) of the caller */
	const char *name;           /* of the heap, for people; NULL: the program's name */
	const char *const *donors;  /* addresses ("tcp:HOST:PORT", "unix:PATH", "shm:PATH"); NULL:
				       $INFUSE_DONOR (separated by spaces), else the registry's */
	unsigned donors_count;
	uint64_t heap_bytes;        /* most that can be allocated; 0: 64 GiB. Address space only */
	uint64_t local_bytes;       /* local cache; 0 with local_percent 0: 256 MiB */
	unsigned local_percent;     /* or a share of what is allocated (1..100) */
	enum inject_mode mode;
	unsigned threads;           /* handlers, or ports in SIGBUS mode; 0: one a core */
	const char *prefetch;       /* "auto" (or NULL), "none", "sequential", "stride", "majority",
				       "replay:FILE": libinject(3) */
	unsigned window_pages;      /* prefetched at once, 1..64; 0: 64 */
	uint64_t deadline_ns;       /* for one request; 0: 3 s */
	uint64_t suspect_ns;        /* with copies or fragments to spare, a donor that is silent for so
				       long has failed; 0: 500 ms; never above deadline_ns */
	unsigned replicas;          /* copies of each page on different donors, 1..3; 0: 1 */
	unsigned code_data, code_parity; /* or erasure coding, as 4 and 2; 0: none */
	const char *spill;          /* a folder: a file in it takes what no donor has room for; NULL:
				       none */
	uint64_t spill_bytes;       /* and its size at most; 0: heap_bytes */
	int seal;                   /* not 0: pages leave this process encrypted (AES-256-GCM), by a
				       key that is nowhere else */
	const char *key_file;       /* talk to donors on other machines by TLS, and to those only that
				       know this key: infuse-key(1); NULL: $INFUSE_KEY_FILE */
	const char *tls_ca;         /* or certificates: of this CA, (PEM files, all three or none) */
	const char *tls_cert;       /* ours, */
	const char *tls_cert_key;   /* and its key */
	uint64_t spin_ns;           /* polls so long before it sleeps; 0: 50 us */
	/*
	 * Called where the failure is found: in SIGBUS mode in the faulting thread, which may leave
	 * by siglongjmp; else in a handler thread. When it returns, or is NULL, the text goes to
	 * standard error and the process ends with status 135, at once: there is no right byte to
	 * go on with. Only async-signal-safe calls are allowed in it.
	 */
	void (*failed)(const struct inject_failure *f, void *arg);
	void *failed_arg;
};

/* Blocks: connects to the donors. -EPERM: no userfaultfd here; the words say what would help. */
INJECT_API int inject_open(const struct inject_options *o, struct inject_heap **ret);

/* Gives all memory back; pointers into the heap are dead. Takes NULL. */
INJECT_API void inject_close(struct inject_heap *h);

/*
 * Zeroed memory, aligned to a page, and to 2 MiB from 2 MiB on. The donors' memory is taken now:
 * -ENOSPC says how much there is; -ENOMEM: heap_bytes is used up.
 */
INJECT_API int inject_alloc(struct inject_heap *h, size_t bytes, void **ret);

/* p as inject_alloc() gave it. -EINVAL when it is not. No other thread may touch it meanwhile. */
INJECT_API int inject_free(struct inject_heap *h, void *p);

/* The whole pages in [p, p + bytes) read as zeros from now on. */
INJECT_API int inject_discard(struct inject_heap *h, void *p, size_t bytes);

enum inject_advice {
	INJECT_NORMAL,     /* prefetch by what is seen */
	INJECT_SEQUENTIAL, /* prefetch from the first fault on */
	INJECT_RANDOM,     /* never prefetch here */
	INJECT_WILLNEED,   /* start to fetch now; does not wait */
};
INJECT_API int inject_advise(struct inject_heap *h, void *p, size_t bytes, enum inject_advice advice);

/*
 * Starts to fetch the pages of count addresses, as scattered as they are, up to 64 in one message;
 * does not wait. What is local, or on its way, or more than half of the local cache, is left out.
 * -EINVAL when one is not in the heap: then nothing is fetched.
 */
INJECT_API int inject_prefetch(struct inject_heap *h, const void *const *addresses, unsigned count);

/*
 * Makes the pages of [p, p + bytes) local and keeps them so until inject_unpin(); pins nest. Blocks
 * until they are. -ENOSPC when that would pin more than three quarters of the local cache; -EIO,
 * -ETIMEDOUT, -EBADMSG when a donor failed: this is the way to get a fault's error as a value.
 */
INJECT_API int inject_pin(struct inject_heap *h, const void *p, size_t bytes);
INJECT_API int inject_unpin(struct inject_heap *h, const void *p, size_t bytes);

struct inject_stats {
	uint64_t allocated_bytes;  /* by inject_alloc() */
	uint64_t local_bytes;      /* limit now in force */
	uint64_t resident_bytes;   /* local now */
	uint64_t pinned_bytes;
	uint64_t faults;           /* pages or windows that a thread waited for or found waiting */
	uint64_t faults_zero;      /* first touches */
	uint64_t faults_staged;    /* came back from the write-back staging */
	uint64_t faults_shared;    /* another thread's fetch served it */
	uint64_t faults_write;     /* first writes to pages that had come for reading */
	uint64_t pages_in;         /* fetched: on demand and ahead */
	uint64_t pages_out;        /* written back */
	uint64_t pages_clean;      /* evicted without a write */
	uint64_t prefetched;       /* pages asked ahead */
	uint64_t prefetch_hits;    /* of them, in windows that were touched */
	uint64_t prefetch_late;    /* windows that were wanted before they had come */
	uint64_t prefetch_wasted;  /* pages thrown away untouched */
	uint64_t bytes_in, bytes_out;
	/* with replicas or a code: */
	uint64_t failovers;        /* reads that another donor had to answer */
	uint64_t hedges;           /* reads sent to a second donor because the first was slow */
	uint64_t repairs;          /* pages rewritten because a donor had wrong bytes */
	uint64_t members_lost;     /* copies or fragments of slabs that failed */
	uint64_t slabs_degraded;   /* slabs that lack some now */
	uint64_t slabs_rebuilt, slabs_moved;
	/* with a spill file: */
	uint64_t spilled_bytes;    /* of the heap's slabs, in the file now */
	uint64_t spill_in, spill_out; /* of bytes_in and bytes_out: from it and to it */
	uint64_t fault_ns;         /* time in fault handling */
	uint64_t latency_ns[32];   /* histogram of faults: [i] counts 2^i..2^(i+1) ns */
};
INJECT_API int inject_stats(struct inject_heap *h, struct inject_stats *ret);

/* The words of this thread's last error. */
INJECT_API const char *inject_error(void);

/* The library's version, "0.1.0". */
INJECT_API const char *inject_version(void);

#ifdef __cplusplus
}
#endif
#endif
