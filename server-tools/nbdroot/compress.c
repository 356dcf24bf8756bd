/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See compress.h. */
#include "compress.h"

#include "base/fd.h"
#include "interrupt.h"

#include <lzma.h>
#include <stdbool.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

enum {
	COMPRESS_CHUNK = 256 * 1024,
	COMPRESS_GZIP_WINDOW = 15 + 16, /* zlib: the largest window, gzip's header */
};

/* ---- packing ------------------------------------------------------------------------------ */

static int compress_gzip(const uint8_t *data, size_t size, int fd, uint8_t *out)
{
	z_stream z = { 0 };
	size_t given = 0;
	int status, r = 0;

	if (deflateInit2(&z, 9, Z_DEFLATED, COMPRESS_GZIP_WINDOW, 9, Z_DEFAULT_STRATEGY) != Z_OK)
		return -ENOMEM;
	do {
		if (z.avail_in == 0 && given < size) {
			z.next_in = (Bytef *)(uintptr_t)(data + given);
			z.avail_in = size - given < COMPRESS_CHUNK ? (uInt)(size - given)
								   : COMPRESS_CHUNK;
			given += z.avail_in;
		}
		z.next_out = out;
		z.avail_out = COMPRESS_CHUNK;
		status = deflate(&z, given == size ? Z_FINISH : Z_NO_FLUSH);
		r = interrupt_pending() ? -EINTR
					: fd_write_all(fd, out, COMPRESS_CHUNK - z.avail_out);
	} while (r == 0 && status == Z_OK);
	deflateEnd(&z);
	return r < 0 ? r : status == Z_STREAM_END ? 0 : -EIO;
}

static int compress_xz(const uint8_t *data, size_t size, int fd, uint8_t *out)
{
	lzma_stream z = LZMA_STREAM_INIT;
	lzma_options_lzma options;
	const lzma_filter filters[] = {
		{ .id = LZMA_FILTER_LZMA2, .options = &options },
		{ .id = LZMA_VLI_UNKNOWN, .options = NULL },
	};
	size_t given = 0;
	lzma_ret status;
	int r = 0;

	if (lzma_lzma_preset(&options, 9 | LZMA_PRESET_EXTREME))
		return -EIO;
	/* The booting kernel allocates the whole dictionary: no larger than the content. */
	while (options.dict_size / 2 >= size && options.dict_size / 2 >= COMPRESS_CHUNK)
		options.dict_size /= 2;
	/* The kernel knows no other check than this one and none. */
	if (lzma_stream_encoder(&z, filters, LZMA_CHECK_CRC32) != LZMA_OK)
		return -ENOMEM;
	do {
		if (z.avail_in == 0 && given < size) {
			z.next_in = data + given;
			z.avail_in = size - given < COMPRESS_CHUNK ? size - given : COMPRESS_CHUNK;
			given += z.avail_in;
		}
		z.next_out = out;
		z.avail_out = COMPRESS_CHUNK;
		status = lzma_code(&z, given == size ? LZMA_FINISH : LZMA_RUN);
		r = interrupt_pending() ? -EINTR
					: fd_write_all(fd, out, COMPRESS_CHUNK - z.avail_out);
	} while (r == 0 && status == LZMA_OK);
	lzma_end(&z);
	return r < 0 ? r : status == LZMA_STREAM_END ? 0 : -EIO;
}

static int compress_zstd(const uint8_t *data, size_t size, int fd, uint8_t *out)
{
	ZSTD_CCtx *z = ZSTD_createCCtx();
	size_t given = 0, left = 1;
	int r = 0;

	if (!z)
		return -ENOMEM;
	ZSTD_CCtx_setParameter(z, ZSTD_c_compressionLevel, 19);
	ZSTD_CCtx_setPledgedSrcSize(z, size); /* so that the window is no larger than needed */
	while (r == 0 && left != 0 && !ZSTD_isError(left)) {
		size_t part = size - given < COMPRESS_CHUNK ? size - given : COMPRESS_CHUNK;
		ZSTD_inBuffer in = { data + given, part, 0 };
		ZSTD_outBuffer to = { out, COMPRESS_CHUNK, 0 };

		left = ZSTD_compressStream2(z, &to, &in,
					    given + part == size ? ZSTD_e_end : ZSTD_e_continue);
		if (ZSTD_isError(left))
			break;
		given += in.pos;
		if (given < size)
			left = 1;
		r = interrupt_pending() ? -EINTR : fd_write_all(fd, out, to.pos);
	}
	ZSTD_freeCCtx(z);
	return r < 0 ? r : left == 0 ? 0 : -EIO;
}

int compress_write(enum compress_kind kind, const void *data, size_t size, int fd)
{
	_cleanup_free_ uint8_t *out = malloc(COMPRESS_CHUNK);

	if (!out)
		return -ENOMEM;
	switch (kind) {
	case COMPRESS_NONE: return fd_write_all(fd, data, size);
	case COMPRESS_GZIP: return compress_gzip(data, size, fd, out);
	case COMPRESS_XZ: return compress_xz(data, size, fd, out);
	case COMPRESS_ZSTD: return compress_zstd(data, size, fd, out);
	case COMPRESS_LZMA: break;
	}
	return -EINVAL;
}

/* ---- unpacking ---------------------------------------------------------------------------- */

struct unpacked {
	uint8_t *data;
	size_t size, room, max;
	size_t used; /* of the input */
};

/* More room at the end, up to the limit. */
static int unpack_grow(struct unpacked *u)
{
	size_t room = u->room ? u->room * 2 : COMPRESS_CHUNK;
	uint8_t *grown;

	if (u->size > u->max)
		return -EFBIG;
	if (u->size < u->room)
		return 0;
	if (room > u->max + 1) /* one byte over tells "more" from "exactly as much" */
		room = u->max + 1;
	grown = realloc(u->data, room);
	if (!grown)
		return -ENOMEM;
	u->data = grown;
	u->room = room;
	return 0;
}

static int unpack_gzip(const uint8_t *data, size_t size, struct unpacked *u)
{
	z_stream z = { 0 };
	int status = Z_OK, r = 0;

	if (size > UINT32_MAX)
		return -EFBIG;
	if (inflateInit2(&z, COMPRESS_GZIP_WINDOW) != Z_OK)
		return -ENOMEM;
	z.next_in = (Bytef *)(uintptr_t)data;
	z.avail_in = (uInt)size;
	while (status == Z_OK && (r = unpack_grow(u)) == 0) {
		size_t room = u->room - u->size;

		z.next_out = u->data + u->size;
		z.avail_out = (uInt)room;
		status = inflate(&z, Z_NO_FLUSH);
		u->size += room - z.avail_out;
	}
	u->used = size - z.avail_in;
	inflateEnd(&z);
	return r < 0 ? r : status == Z_STREAM_END ? 0 : -EBADMSG;
}

static int unpack_xz(const uint8_t *data, size_t size, bool is_lzma, struct unpacked *u)
{
	/* 128 MiB: twice what xz -9 needs. */
	static const uint64_t memory = UINT64_C(128) << 20;
	lzma_stream z = LZMA_STREAM_INIT;
	lzma_ret status = LZMA_OK;
	int r = 0;

	if ((is_lzma ? lzma_alone_decoder(&z, memory) : lzma_stream_decoder(&z, memory, 0)) !=
	    LZMA_OK)
		return -ENOMEM;
	z.next_in = data;
	z.avail_in = size;
	while (status == LZMA_OK && (r = unpack_grow(u)) == 0) {
		size_t room = u->room - u->size;

		z.next_out = u->data + u->size;
		z.avail_out = room;
		status = lzma_code(&z, LZMA_FINISH);
		u->size += room - z.avail_out;
	}
	u->used = size - z.avail_in;
	lzma_end(&z);
	return r < 0 ? r : status == LZMA_STREAM_END ? 0 : -EBADMSG;
}

static int unpack_zstd(const uint8_t *data, size_t size, struct unpacked *u)
{
	ZSTD_DCtx *z = ZSTD_createDCtx();
	ZSTD_inBuffer in = { data, size, 0 };
	size_t left = 1;
	int r = 0;

	if (!z)
		return -ENOMEM;
	while (left != 0 && (r = unpack_grow(u)) == 0) {
		ZSTD_outBuffer out = { u->data, u->room, u->size };
		size_t before = in.pos;

		left = ZSTD_decompressStream(z, &out, &in);
		/* An error, or a frame that wants more than there is. */
		if (ZSTD_isError(left) || (out.pos == u->size && in.pos == before && left != 0)) {
			r = -EBADMSG;
			break;
		}
		u->size = out.pos;
	}
	u->used = in.pos;
	ZSTD_freeDCtx(z);
	return r;
}

int compress_unpack_first(enum compress_kind kind, const void *data, size_t size, size_t max,
			  uint8_t **out, size_t *out_size, size_t *used)
{
	struct unpacked u = { .max = max };
	int r = -EINVAL;

	switch (kind) {
	case COMPRESS_NONE: break;
	case COMPRESS_GZIP: r = unpack_gzip(data, size, &u); break;
	case COMPRESS_XZ: r = unpack_xz(data, size, false, &u); break;
	case COMPRESS_LZMA: r = unpack_xz(data, size, true, &u); break;
	case COMPRESS_ZSTD: r = unpack_zstd(data, size, &u); break;
	}
	if (r == 0 && u.size > max)
		r = -EFBIG;
	if (r < 0) {
		free(u.data);
		return r;
	}
	*out = u.data;
	*out_size = u.size;
	*used = u.used;
	return 0;
}

int compress_unpack(enum compress_kind kind, const void *data, size_t size, size_t max,
		    uint8_t **out, size_t *out_size)
{
	size_t used;

	return compress_unpack_first(kind, data, size, max, out, out_size, &used);
}

const char *compress_detect(const void *data, size_t size, enum compress_kind *kind)
{
	static const struct {
		const char *name, *magic;
		size_t length;
		enum compress_kind kind;
	} forms[] = {
		/* as in the kernel's lib/decompress.c */
		{ "gzip", "\x1f\x8b", 2, COMPRESS_GZIP },
		{ "gzip", "\x1f\x9e", 2, COMPRESS_GZIP },
		{ "bzip2", "BZh", 3, COMPRESS_NONE },
		{ "lzma", "\x5d\0\0", 3, COMPRESS_LZMA },
		{ "xz",
		  "\xfd"
		  "7zXZ",
		  6, COMPRESS_XZ },
		{ "lzo",
		  "\x89"
		  "LZO",
		  4, COMPRESS_NONE },
		{ "lz4", "\x02\x21\x4c\x18", 4, COMPRESS_NONE },
		{ "zstd", "\x28\xb5\x2f\xfd", 4, COMPRESS_ZSTD },
	};

	for (size_t i = 0; i < ARRAY_SIZE(forms); i++) {
		if (size < forms[i].length || memcmp(data, forms[i].magic, forms[i].length) != 0)
			continue;
		*kind = forms[i].kind;
		return forms[i].name;
	}
	return NULL;
}
