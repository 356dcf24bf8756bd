/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See out.h. */
#include "out.h"

#include <fcntl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>

enum { OUT_IOV_MAX = 16 };

/* Replies; the usual largest request of clients with its head; the largest of Linux's. */
static const struct {
	size_t capacity;
	unsigned max; /* kept by a thread */
} kinds[CHUNK_CLASSES] = {
	{ CHUNK_SIZE, 16 },
	{ 256 * 1024 + 4096 - 128, 8 },
	{ 1024 * 1024 + 4096 - 128, 2 },
};

void chunk_cache_init(struct chunk_cache *cache, struct memory *memory)
{
	*cache = (struct chunk_cache){ .memory = memory };
	for (unsigned i = 0; i < CHUNK_CLASSES; i++)
		STAILQ_INIT(&cache->list[i]);
}

void chunk_cache_deinit(struct chunk_cache *cache)
{
	for (unsigned i = 0; i < CHUNK_CLASSES; i++) {
		struct chunk *c;

		while ((c = STAILQ_FIRST(&cache->list[i]))) {
			STAILQ_REMOVE_HEAD(&cache->list[i], link);
			free(c);
		}
		cache->count[i] = 0;
	}
}

/* The smallest kind with room for size bytes, or CHUNK_CLASSES. */
static unsigned kind_of(size_t size)
{
	unsigned i = 0;

	while (i < CHUNK_CLASSES && kinds[i].capacity < size)
		i++;
	return i;
}

static size_t round_up(size_t size)
{
	return (size + CHUNK_ALIGN - 1) / CHUNK_ALIGN * CHUNK_ALIGN;
}

struct chunk *chunk_new(struct chunk_cache *cache, size_t size)
{
	unsigned kind = kind_of(size);
	size_t capacity = kind < CHUNK_CLASSES ? kinds[kind].capacity : size;
	struct chunk *c = kind < CHUNK_CLASSES ? STAILQ_FIRST(&cache->list[kind]) : NULL;

	if (c) {
		STAILQ_REMOVE_HEAD(&cache->list[kind], link);
		cache->count[kind]--;
	} else {
		c = aligned_alloc(CHUNK_ALIGN, round_up(sizeof(*c) + capacity));
		if (!c)
			return NULL;
	}
	c->capacity = capacity;
	c->used = 0;
	c->sent = 0;
	c->file = -1;
	c->file_left = 0;
	memory_take(cache->memory, capacity);
	return c;
}

void chunk_free(struct chunk_cache *cache, struct chunk *c)
{
	unsigned kind;

	if (!c)
		return;
	kind = kind_of(c->capacity);
	memory_give(cache->memory, c->capacity);
	if (c->file < 0 && kind < CHUNK_CLASSES && kinds[kind].capacity == c->capacity &&
	    cache->count[kind] < kinds[kind].max) {
		STAILQ_INSERT_HEAD(&cache->list[kind], c, link);
		cache->count[kind]++;
	} else {
		free(c);
	}
}

void out_init(struct out *o)
{
	STAILQ_INIT(&o->list);
	o->bytes = 0;
}

static void drop_first(struct out *o, struct chunk_cache *cache)
{
	struct chunk *c = STAILQ_FIRST(&o->list);

	STAILQ_REMOVE_HEAD(&o->list, link);
	chunk_free(cache, c);
}

void out_deinit(struct out *o, struct chunk_cache *cache)
{
	while (!STAILQ_EMPTY(&o->list))
		drop_first(o, cache);
	o->bytes = 0;
}

uint8_t *out_reserve(struct out *o, struct chunk_cache *cache, size_t size)
{
	struct chunk *c = out_is_empty(o) ? NULL : o->last;

	if (!c || c->file >= 0 || c->capacity - c->used < size) {
		c = chunk_new(cache, size);
		if (!c)
			return NULL;
		STAILQ_INSERT_TAIL(&o->list, c, link);
		o->last = c;
	}
	return c->data + c->used;
}

void out_commit(struct out *o, size_t size)
{
	struct chunk *c = o->last;

	c->used += size;
	o->bytes += size;
}

struct chunk *chunk_new_file(struct chunk_cache *cache, size_t head, int file, uint64_t offset,
			     size_t size)
{
	struct chunk *c = aligned_alloc(CHUNK_ALIGN, round_up(sizeof(*c) + head));

	if (!c)
		return NULL;
	*c = (struct chunk){
		.capacity = head,
		.file = file,
		.file_offset = offset,
		.file_left = size,
	};
	memory_take(cache->memory, c->capacity);
	return c;
}

void out_add_chunk(struct out *o, struct chunk *c)
{
	STAILQ_INSERT_TAIL(&o->list, c, link);
	o->last = c;
	o->bytes += c->used + c->file_left;
}

/* That many bytes of memory at the front of the queue are gone. */
static void advance(struct out *o, struct chunk_cache *cache, size_t n)
{
	struct chunk *c;

	o->bytes -= n;
	while ((c = STAILQ_FIRST(&o->list))) {
		size_t left = c->used - c->sent;

		if (n < left) {
			c->sent += n;
			return;
		}
		n -= left;
		c->sent = c->used;
		if (c->file >= 0)
			return; /* its range comes next */
		drop_first(o, cache);
	}
}

/* The memory at the front of the queue, as far as one call takes it and no range is between. */
static ssize_t send_memory(struct out *o, int fd)
{
	struct iovec iov[OUT_IOV_MAX];
	struct msghdr msg = { .msg_iov = iov };
	const struct chunk *c;
	int flags = MSG_NOSIGNAL | MSG_DONTWAIT;

	STAILQ_FOREACH (c, &o->list, link) {
		if (msg.msg_iovlen == OUT_IOV_MAX) {
			flags |= MSG_MORE; /* what follows comes at once */
			break;
		}
		iov[msg.msg_iovlen].iov_base = (uint8_t *)c->data + c->sent;
		iov[msg.msg_iovlen++].iov_len = c->used - c->sent;
		if (c->file >= 0) {
			flags |= MSG_MORE;
			break;
		}
	}
	if (msg.msg_iovlen == 1)
		return send(fd, iov[0].iov_base, iov[0].iov_len, flags);
	return sendmsg(fd, &msg, flags);
}

static ssize_t send_range(const struct chunk *c, int fd, bool is_blocking)
{
	off_t offset = (off_t)c->file_offset;
	int flags = is_blocking ? fcntl(fd, F_GETFL) : 0;
	ssize_t n;

	/* sendfile(2) has no flags: only the descriptor can say that it must not wait. */
	if (is_blocking)
		(void)fcntl(fd, F_SETFL, flags | O_NONBLOCK);
	n = sendfile(fd, c->file, &offset, c->file_left);
	if (is_blocking) {
		int saved = errno;

		(void)fcntl(fd, F_SETFL, flags);
		errno = saved;
	}
	if (n == 0) { /* the file is shorter than it was */
		errno = EIO;
		return -1;
	}
	return n;
}

int out_send(struct out *o, struct chunk_cache *cache, int fd, bool is_blocking, bool *moved)
{
	struct chunk *c;

	*moved = false;
	while ((c = STAILQ_FIRST(&o->list))) {
		bool is_range = c->sent == c->used && c->file >= 0;
		ssize_t n;

		if (c->used == c->sent && !is_range) { /* reserved, never used */
			drop_first(o, cache);
			continue;
		}
		n = is_range ? send_range(c, fd, is_blocking) : send_memory(o, fd);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? 1 : -errno;
		*moved = true;
		if (!is_range) {
			advance(o, cache, (size_t)n);
			continue;
		}
		o->bytes -= (size_t)n;
		c->file_offset += (uint64_t)n;
		c->file_left -= (uint64_t)n;
		if (c->file_left == 0)
			drop_first(o, cache);
	}
	return 0;
}
