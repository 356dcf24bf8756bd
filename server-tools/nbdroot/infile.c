/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See infile.h. */
#include "infile.h"

#include "base/fd.h"

#include <fcntl.h>
#include <sys/stat.h>

int infile_read(const char *path, size_t max, void **data, size_t *size)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	_cleanup_free_ char *content = NULL;
	struct stat st;
	int r;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	if ((uintmax_t)st.st_size > max)
		return -EFBIG;
	content = malloc((size_t)st.st_size + 1);
	if (!content)
		return -ENOMEM;
	r = fd_read_all(fd, content, (size_t)st.st_size);
	if (r < 0)
		return r;
	content[st.st_size] = '\0'; /* texts may be used as strings */
	*size = (size_t)st.st_size;
	*data = steal_ptr(&content);
	return 0;
}
