/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * For LD_PRELOAD into linux.uml. User-Mode Linux 6.1 sets a process' extended CPU state with a
 * buffer of the size that its own headers knew; the host's kernel wants it whole
 * (arch/x86/kernel/fpu/regset.c, xstateregs_set()) and answers EFAULT on a CPU that has more, such
 * as AMX: then no guest gets as far as its /init. Here what UML does not know keeps the value
 * that it has.
 */
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

enum { STATE_MAX = 64 << 10 };

typedef long ptrace_fn(int request, ...);

long ptrace(enum __ptrace_request request, ...)
{
	static char whole[STATE_MAX]; /* not on a guest kernel's stack; its CPU is one */
	static ptrace_fn *real;
	static bool is_short; /* known: what is given here does not do */
	void *address, *data;
	va_list ap;
	long pid, r;

	va_start(ap, request);
	pid = va_arg(ap, int);
	address = va_arg(ap, void *);
	data = va_arg(ap, void *);
	va_end(ap);
	if (real == NULL)
		real = (ptrace_fn *)dlsym(RTLD_NEXT, "ptrace");

	if (request != PTRACE_SETREGSET || (long)address != NT_X86_XSTATE)
		return real(request, pid, address, data);
	if (!is_short) {
		r = real(request, pid, address, data);
		if (r == 0 || errno != EFAULT)
			return r;
		is_short = true;
	}

	const struct iovec *given = data;
	struct iovec v = { whole, sizeof(whole) };

	r = real(PTRACE_GETREGSET, pid, address, &v);
	if (r != 0)
		return r;
	if (v.iov_len < given->iov_len) {
		errno = EFAULT;
		return -1;
	}
	memcpy(whole, given->iov_base, given->iov_len);
	return real(PTRACE_SETREGSET, pid, address, &v);
}
