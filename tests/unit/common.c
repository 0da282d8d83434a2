/* SPDX-License-Identifier: MIT */
/* Errors' words, log lines, memory, scoped clean-up, and what the probe says of this machine. */
#include "common/cleanup.h"
#include "common/error.h"
#include "common/log.h"
#include "common/memory.h"
#include "common/probe.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/wait.h>

Test(error, the_words_wait_until_the_next_failure)
{
	cr_assert_str_eq(err_text(), "");
	cr_assert_eq(err_fail(-EINVAL, "'%s' is %d", "x", 5), -EINVAL);
	cr_assert_str_eq(err_text(), "'x' is 5");
	cr_assert_str_eq(err_text(), "'x' is 5");
}

Test(error, words_may_be_built_on_the_words_before)
{
	err_fail(-EIO, "disk");
	err_fail(-EIO, "volume: %s", err_text());
	cr_assert_str_eq(err_text(), "volume: disk");
}

Test(error, long_words_are_cut_not_spilled)
{
	char s[2000];

	memset(s, 'x', sizeof s);
	s[1999] = 0;
	err_fail(-EIO, "%s", s);
	cr_assert_eq(strlen(err_text()), 511);
}

static void *fail_elsewhere(void *arg)
{
	err_fail(-EIO, "elsewhere");
	return arg;
}

Test(error, each_thread_has_its_own_words)
{
	pthread_t t;

	err_fail(-EIO, "here");
	pthread_create(&t, NULL, fail_elsewhere, NULL);
	pthread_join(t, NULL);
	cr_assert_str_eq(err_text(), "here");
}

/* What log_line() wrote to standard error while its journal variable was set so. */
static void log_says(const char *journal, enum log_level max, enum log_level level,
		     const char *text, const char *expected)
{
	char got[2048] = "";
	int fds[2], saved = dup(2);
	ssize_t n;

	cr_assert_eq(pipe2(fds, O_NONBLOCK), 0);
	if (journal)
		setenv("JOURNAL_STREAM", journal, 1);
	else
		unsetenv("JOURNAL_STREAM");
	log_open("tester", max);
	dup2(fds[1], 2);
	log_line(level, "%s", text);
	dup2(saved, 2);
	n = read(fds[0], got, sizeof got - 1);
	got[n > 0 ? n : 0] = 0;
	cr_assert_str_eq(got, expected);
	close(fds[0]);
	close(fds[1]);
	close(saved);
}

Test(log, a_line_has_the_programs_name_and_for_the_journal_its_level)
{
	log_says(NULL, LOG_INFO, LOG_INFO, "hello", "tester: hello\n");
	log_says("8:1", LOG_INFO, LOG_WARN, "hello", "<4>tester: hello\n");
	log_says(NULL, LOG_INFO, LOG_DEBUG, "hello", "");
}

Test(log, a_long_line_is_cut_and_ended)
{
	char text[1500], expected[1100] = "tester: ";

	memset(text, 'x', sizeof text);
	text[1499] = 0;
	memset(expected + 8, 'x', 1022 - 8);
	strcpy(expected + 1022, "\n");
	log_says(NULL, LOG_INFO, LOG_ERROR, text, expected);
}

Test(memory, is_zeroed_and_whole_pages)
{
	unsigned char *p = mem_map(5000);

	cr_assert_not_null(p);
	cr_assert_eq((uintptr_t)p % 4096, 0);
	for (int i = 0; i < 8192; i++)
		cr_assert_eq(p[i], 0);
	memset(p, 1, 8192);
	mem_unmap(p, 5000);
	mem_unmap(NULL, 5000);
	cr_assert_null(mem_map((size_t)1 << 62));
}

Test(cleanup, a_descriptor_is_closed_with_its_scope_unless_it_is_stolen)
{
	int kept, closed;

	{
		CLEANUP_FD int a = open("/dev/null", O_RDONLY);
		CLEANUP_FD int b = open("/dev/null", O_RDONLY);

		closed = a;
		kept = steal_fd(&b);
		cr_assert_eq(b, -1);
	}
	cr_assert_eq(fcntl(closed, F_GETFD), -1);
	cr_assert_neq(fcntl(kept, F_GETFD), -1);
	close(kept);
}

Test(probe, what_it_says_fits_together, .timeout = 20)
{
	struct probe p;
	int r = probe_machine(&p);

	cr_assert_geq(p.cores, 1);
	cr_assert_geq(p.memory_bytes, p.available_bytes);
	cr_assert_gt(p.available_bytes, 0);
	if (r) {
		cr_assert_neq(err_text()[0], 0);
		cr_assert(p.device || p.syscall || p.kernel_fault);
		return;
	}
	cr_assert(!p.device || !p.syscall);
	cr_assert_eq(p.kernel_fault, 0);
	cr_assert(p.features & 1, "write-protect is as old as what we stand on");
}

Test(probe, a_user_without_rights_is_told_what_would_help, .timeout = 20)
{
	struct probe p;
	int status;
	pid_t child;

	if (geteuid())
		cr_skip_test("needs root, to give rights up");
	child = fork();
	if (!child) {
		int r = setresuid(65534, 65534, 65534) ? 0 : probe_machine(&p);

		/* An administrator may have opened the device or the sysctl to everyone. */
		if (!p.device || p.sysctl == 1)
			_exit(r ? 1 : 0);
		_exit(r == -EPERM && strstr(err_text(), "vm.unprivileged_userfaultfd=1") &&
				      strstr(err_text(), "CAP_SYS_PTRACE")
			      ? 0
			      : 2);
	}
	cr_assert_eq(waitpid(child, &status, 0), child);
	cr_assert_eq(status, 0, "0x%x", status);
}
