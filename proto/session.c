/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See session.h. */
#include "session.h"

#include "wire.h"

#include <string.h>

/* ---- strings ----------------------------------------------------------------------------- */

/* The length of the character that begins at p, 0 for none that UTF-8 allows; its value to *c. */
static size_t utf8_character(const uint8_t *p, size_t left, uint32_t *c)
{
	static const uint32_t smallest[] = { 0, 0, 0x80, 0x800, 0x10000 };
	size_t length = p[0] < 0x80             ? 1
			: (p[0] & 0xe0) == 0xc0 ? 2
			: (p[0] & 0xf0) == 0xe0 ? 3
			: (p[0] & 0xf8) == 0xf0 ? 4
						: 0;

	if (length == 0 || length > left)
		return 0;
	*c = length == 1 ? p[0] : p[0] & (0x7fu >> length);
	for (size_t i = 1; i < length; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		*c = *c << 6 | (p[i] & 0x3fu);
	}
	/* Longer than needed, half of a UTF-16 pair, or past the end of Unicode. */
	if (*c < smallest[length] || (*c >= 0xd800 && *c <= 0xdfff) || *c > 0x10ffff)
		return 0;
	return length;
}

bool nbd_is_plain_text(const void *data, size_t size)
{
	const uint8_t *p = data;

	while (size > 0) {
		uint32_t c;
		size_t length = utf8_character(p, size, &c);

		if (length == 0 || c < 0x20 || (c >= 0x7f && c <= 0x9f))
			return false;
		p += length;
		size -= length;
	}
	return true;
}

/* Takes a string into out, which has room for max bytes and a NUL. */
static bool take_text(struct wire_reader *r, size_t length, char *out, size_t max)
{
	const uint8_t *p = wire_bytes(r, length);

	if (!p || length > max || !nbd_is_plain_text(p, length))
		return false;
	memcpy(out, p, length);
	out[length] = '\0';
	return true;
}

static bool is_zero(const uint8_t id[static NBD_SESSION_ID_SIZE])
{
	static const uint8_t zero[NBD_SESSION_ID_SIZE];

	return memcmp(id, zero, sizeof(zero)) == 0;
}

/* ---- the option -------------------------------------------------------------------------- */

size_t nbd_session_encode(uint8_t out[static NBD_SESSION_MAX], const struct nbd_session *session,
			  const char *name)
{
	struct wire_writer w = wire_writer(out, NBD_SESSION_MAX);
	size_t name_size = strlen(name);
	size_t machine_size = strlen(session->machine), host_size = strlen(session->host);

	if (name_size > NBD_STRING_MAX || is_zero(session->id) || machine_size == 0 ||
	    !nbd_is_plain_text(session->machine, machine_size) ||
	    !nbd_is_plain_text(session->host, host_size))
		return 0;
	wire_put_u8(&w, NBD_SESSION_VERSION);
	wire_put_zeroes(&w, 3);
	wire_put_u32(&w, session->slot);
	wire_put_u64(&w, session->generation);
	wire_put_bytes(&w, session->id, sizeof(session->id));
	wire_put_u16(&w, (uint16_t)name_size);
	wire_put_u8(&w, (uint8_t)machine_size);
	wire_put_u8(&w, (uint8_t)host_size);
	wire_put_bytes(&w, name, name_size);
	wire_put_bytes(&w, session->machine, machine_size);
	wire_put_bytes(&w, session->host, host_size);
	return w.full ? 0 : wire_used(&w);
}

bool nbd_session_decode(struct nbd_session *session, const uint8_t **name, size_t *name_size,
			const void *data, size_t size)
{
	struct wire_reader r = wire_reader(data, size);
	struct nbd_session got = { 0 };
	const uint8_t *id, *name_at;
	size_t name_length, machine_length, host_length;
	uint8_t version = wire_u8(&r);

	wire_bytes(&r, 3); /* for later versions */
	got.slot = wire_u32(&r);
	got.generation = wire_u64(&r);
	id = wire_bytes(&r, sizeof(got.id));
	name_length = wire_u16(&r);
	machine_length = wire_u8(&r);
	host_length = wire_u8(&r);
	name_at = wire_bytes(&r, name_length);
	if (!id || !name_at || version == 0 || machine_length == 0)
		return false;
	memcpy(got.id, id, sizeof(got.id));
	if (is_zero(got.id) ||
	    !take_text(&r, machine_length, got.machine, NBD_SESSION_MACHINE_MAX) ||
	    !take_text(&r, host_length, got.host, NBD_SESSION_HOST_MAX))
		return false;
	*session = got;
	*name = name_at;
	*name_size = name_length;
	return true;
}

/* ---- its reply --------------------------------------------------------------------------- */

size_t nbd_session_reply_encode(uint8_t out[static NBD_SESSION_REPLY_MAX],
				const struct nbd_session_reply *reply)
{
	struct wire_writer w = wire_writer(out, NBD_SESSION_REPLY_MAX);
	size_t length = reply->is_refused ? strlen(reply->holder) : 0;

	if (!nbd_is_plain_text(reply->holder, length))
		length = 0;
	wire_put_u8(&w, NBD_SESSION_VERSION);
	wire_put_u8(&w, (uint8_t)reply->durability);
	wire_put_u8(&w, reply->is_refused);
	wire_put_u8(&w, 0);
	wire_put_u16(&w, (uint16_t)length);
	wire_put_u16(&w, 0);
	wire_put_u64(&w, reply->generation);
	wire_put_bytes(&w, reply->boot_id, sizeof(reply->boot_id));
	wire_put_bytes(&w, reply->image_id, sizeof(reply->image_id));
	wire_put_bytes(&w, reply->holder, length);
	return wire_used(&w);
}

bool nbd_session_reply_decode(struct nbd_session_reply *reply, const void *data, size_t size)
{
	struct wire_reader r = wire_reader(data, size);
	struct nbd_session_reply got = { 0 };
	const uint8_t *boot_id, *image_id;
	uint8_t version = wire_u8(&r), durability = wire_u8(&r), verdict = wire_u8(&r);
	size_t length;

	wire_bytes(&r, 1);
	length = wire_u16(&r);
	wire_bytes(&r, 2);
	got.generation = wire_u64(&r);
	boot_id = wire_bytes(&r, sizeof(got.boot_id));
	image_id = wire_bytes(&r, sizeof(got.image_id));
	if (!boot_id || !image_id || version == 0 ||
	    !take_text(&r, length, got.holder, NBD_SESSION_HOLDER_MAX))
		return false;
	memcpy(got.boot_id, boot_id, sizeof(got.boot_id));
	memcpy(got.image_id, image_id, sizeof(got.image_id));
	/* A later version's promise is unknown here: the weaker one is safe to believe. */
	got.durability =
		durability == NBD_DURABILITY_WRITE ? NBD_DURABILITY_WRITE : NBD_DURABILITY_FLUSH;
	got.is_refused = verdict != 0;
	*reply = got;
	return true;
}
