/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Our client against our server through two byte pipes that deliver in random pieces, with the
 * same chances each time: whatever the splits, both ends agree on what was said, and the bytes of
 * the transmission phase behind it stay in the pipes.
 */
#include "proto/handshake-client.h"
#include "proto/handshake-server.h"

#include "tests/unit/tap.h"

#include "tests/unit/bytes.h"

enum { ROUNDS = 300 };

struct pipe {
	struct bytes data;
	size_t read;
};

static struct nbd_hsc c;
static struct nbd_hss s;
static struct pipe to_client, to_server;
static struct bytes listed;
static uint32_t seed;

static struct {
	const char *names[8]; /* of the exports, up to the first NULL */
	struct nbd_export_info info;
	uint32_t refuse_error; /* 0: accept what is in names */
	const char *refuse_text;
	bool says_session, knows_sessions; /* the client, the server */
	struct nbd_session session;
	struct nbd_session_reply session_reply;
} world;

static enum nbd_hsc_result client_result;
static enum nbd_hss_event server_event;

static bool has_export(const char *name)
{
	for (size_t i = 0; world.names[i]; i++)
		if (strcmp(world.names[i], name) == 0)
			return true;
	return false;
}

static void move_output(struct pipe *to, const uint8_t *out, size_t size)
{
	put_mem(&to->data, out, size);
}

static void client_sends(void)
{
	size_t size;
	const uint8_t *out = nbd_hsc_output(&c, &size);

	if (size == 0)
		return;
	size = 1 + draw(&seed, (uint32_t)size);
	move_output(&to_server, out, size);
	nbd_hsc_sent(&c, size);
}

static void server_sends(void)
{
	size_t size;
	const uint8_t *out = nbd_hss_output(&s, &size);

	if (size == 0)
		return;
	size = 1 + draw(&seed, (uint32_t)size);
	move_output(&to_client, out, size);
	nbd_hss_sent(&s, size);
}

static bool server_has_output(void)
{
	size_t size;

	nbd_hss_output(&s, &size);
	return size > 0;
}

static bool client_has_output(void)
{
	size_t size;

	nbd_hsc_output(&c, &size);
	return size > 0;
}

/* A random piece of what is there, at most want. */
static const uint8_t *take(struct pipe *from, size_t want, size_t *size)
{
	const uint8_t *p = from->data.b + from->read;

	*size = from->data.n - from->read;
	if (*size > want)
		*size = want;
	if (*size > 0)
		*size = 1 + draw(&seed, (uint32_t)*size);
	from->read += *size;
	return p;
}

static void client_reads(void)
{
	size_t size;
	const uint8_t *p = take(&to_client, nbd_hsc_want(&c), &size);

	if (size == 0)
		return;
	client_result = nbd_hsc_feed(&c, p, size);
	if (client_result == NBD_HSC_EXPORT) {
		put_text(&listed, c.text);
		put_text(&listed, ";");
		client_result = NBD_HSC_MORE;
	}
}

static void server_reads(void)
{
	size_t size;
	const uint8_t *p = take(&to_server, nbd_hss_want(&s), &size);

	if (size == 0)
		return;
	server_event = nbd_hss_feed(&s, p, size);
	if (server_event == NBD_HSS_ASK_LIST) {
		for (size_t i = 0; world.names[i]; i++) {
			nbd_hss_list(&s, world.names[i]);
			while (server_has_output())
				server_sends();
		}
		server_event = nbd_hss_list_end(&s);
	} else if (server_event == NBD_HSS_ASK_SESSION) {
		server_event = world.knows_sessions
				       ? nbd_hss_session(&s, &world.session_reply)
				       : nbd_hss_refuse(&s, NBD_REP_ERR_UNSUP, "no sessions");
	} else if (server_event == NBD_HSS_ASK_EXPORT) {
		if (world.refuse_error)
			server_event = nbd_hss_refuse(&s, world.refuse_error, world.refuse_text);
		else if (has_export(s.name))
			server_event = nbd_hss_accept(&s, &world.info);
		else
			server_event = nbd_hss_refuse(&s, NBD_REP_ERR_UNKNOWN, "no such export");
	}
}

static bool is_over(void)
{
	return client_result != NBD_HSC_MORE && server_event != NBD_HSS_MORE &&
	       !client_has_output() && !server_has_output();
}

/* One negotiation; false when it does not come to an end. */
static bool meet(enum nbd_hsc_goal goal, const char *name)
{
	memset(&to_client, 0, sizeof(to_client));
	memset(&to_server, 0, sizeof(to_server));
	listed.n = 0;
	client_result = NBD_HSC_MORE;
	server_event = NBD_HSS_MORE;
	if (!nbd_hsc_init(&c, goal, name))
		return false;
	if (world.says_session && !nbd_hsc_set_session(&c, &world.session))
		return false;
	nbd_hss_init(&s);
	for (int i = 0; i < 1000000 && !is_over(); i++) {
		switch (draw(&seed, 4)) {
		case 0: client_sends(); break;
		case 1: server_sends(); break;
		case 2:
			if (!client_has_output())
				client_reads();
			break;
		default:
			if (!server_has_output())
				server_reads();
			break;
		}
	}
	put_be(&listed, 0, 1);
	return is_over();
}

static bool pipes_are_empty(void)
{
	return to_client.read == to_client.data.n && to_server.read == to_server.data.n &&
	       nbd_hsc_want(&c) == 0 && nbd_hss_want(&s) == 0;
}

static void new_world(void)
{
	memset(&world, 0, sizeof(world));
	world.names[0] = "disk";
	world.names[1] = "";
	world.names[2] = "a name with \xc3\xbcmlaut";
	world.info = (struct nbd_export_info){ .size = (uint64_t)draw(&seed, 1 << 20) << 12,
					       .flags = (uint16_t)(1 | draw(&seed, 1 << 12)),
					       .block_min = UINT32_C(1) << draw(&seed, 13),
					       .block_preferred = 4096,
					       .block_max = UINT32_C(4096) << draw(&seed, 14) };
}

static bool same_info(void)
{
	/* without structured replies, which our client never asks for, there is no DF */
	uint16_t flags = (uint16_t)(world.info.flags & ~NBD_FLAG_SEND_DF);

	return c.info.size == world.info.size && c.info.flags == flags && c.has_block_size &&
	       c.info.block_min == world.info.block_min &&
	       c.info.block_preferred == world.info.block_preferred &&
	       c.info.block_max == world.info.block_max;
}

TEST(go_brings_both_ends_to_transmission_with_the_same_export)
{
	seed = 1;
	for (int i = 0; i < ROUNDS; i++) {
		new_world();
		CHECK(meet(NBD_HSC_GOAL_GO, world.names[i % 3]));
		CHECK_EQ(client_result, NBD_HSC_DONE);
		CHECK_EQ(server_event, NBD_HSS_DONE);
		CHECK(same_info());
		CHECK(!c.used_export_name);
		CHECK_STR(s.name, world.names[i % 3]);
		CHECK(pipes_are_empty());
	}
}

TEST(info_tells_the_client_and_ends_the_connection)
{
	seed = 2;
	for (int i = 0; i < ROUNDS; i++) {
		new_world();
		CHECK(meet(NBD_HSC_GOAL_INFO, world.names[i % 3]));
		CHECK_EQ(client_result, NBD_HSC_DONE);
		CHECK_EQ(server_event, NBD_HSS_CLOSE);
		CHECK(same_info());
		CHECK_STR(c.text, world.names[i % 3]);
	}
}

TEST(list_tells_the_client_every_name_in_order)
{
	static char name[NBD_STRING_MAX + 1], expected[NBD_STRING_MAX + 100];

	memset(name, 'y', NBD_STRING_MAX);
	snprintf(expected, sizeof(expected), "disk;;a name with \xc3\xbcmlaut;%s;", name);
	seed = 3;
	for (int i = 0; i < ROUNDS; i++) {
		new_world();
		world.names[3] = name;
		CHECK(meet(NBD_HSC_GOAL_LIST, ""));
		CHECK_EQ(client_result, NBD_HSC_DONE);
		CHECK_EQ(server_event, NBD_HSS_CLOSE);
		CHECK_STR((char *)listed.b, expected);
	}
}

TEST(a_server_without_exports_has_an_empty_list)
{
	seed = 4;
	for (int i = 0; i < ROUNDS; i++) {
		new_world();
		world.names[0] = NULL;
		CHECK(meet(NBD_HSC_GOAL_LIST, ""));
		CHECK_EQ(client_result, NBD_HSC_DONE);
		CHECK_STR((char *)listed.b, "");
	}
}

TEST(an_unknown_export_is_refused_in_the_servers_words)
{
	seed = 5;
	for (int i = 0; i < ROUNDS; i++) {
		new_world();
		CHECK(meet(i % 2 ? NBD_HSC_GOAL_GO : NBD_HSC_GOAL_INFO, "gone"));
		CHECK_EQ(client_result, NBD_HSC_E_REFUSED);
		CHECK_EQ(c.rep_error, NBD_REP_ERR_UNKNOWN);
		CHECK_STR(c.text, "no such export");
		CHECK_EQ(server_event, NBD_HSS_CLOSE);
	}
}

TEST(a_long_refusal_arrives_cut_and_its_number_whole)
{
	static char text[3000];

	memset(text, 'z', sizeof(text) - 1);
	seed = 6;
	for (int i = 0; i < ROUNDS; i++) {
		new_world();
		world.refuse_error = NBD_REP_ERR_POLICY;
		world.refuse_text = text;
		CHECK(meet(NBD_HSC_GOAL_GO, "disk"));
		CHECK_EQ(client_result, NBD_HSC_E_REFUSED);
		CHECK_EQ(c.rep_error, NBD_REP_ERR_POLICY);
		CHECK_EQ(strlen(c.text), NBD_HSS_TEXT_MAX);
	}
}

/* A server that refuses GO as unknown to it drives our client to NBD_OPT_EXPORT_NAME. */
TEST(export_name_after_a_refused_go_ends_the_connection_when_refused_again)
{
	seed = 7;
	for (int i = 0; i < ROUNDS; i++) {
		new_world();
		world.refuse_error = NBD_REP_ERR_UNSUP;
		world.refuse_text = "";
		CHECK(!meet(NBD_HSC_GOAL_GO, "disk")); /* the client waits: a close would tell it */
		CHECK_EQ(server_event, NBD_HSS_CLOSE);
		CHECK_EQ(client_result, NBD_HSC_MORE);
		CHECK(c.used_export_name);
		CHECK_EQ(nbd_hsc_want(&c), 10);
		CHECK(to_client.read == to_client.data.n);
		if (i == 2)
			break; /* each waits for its million steps */
	}
}

TEST(a_name_of_4096_bytes_goes_through_every_goal)
{
	static char name[NBD_STRING_MAX + 1];

	memset(name, 'x', NBD_STRING_MAX);
	seed = 8;
	for (int i = 0; i < ROUNDS; i++) {
		new_world();
		world.names[0] = name;
		CHECK(meet(i % 2 ? NBD_HSC_GOAL_GO : NBD_HSC_GOAL_INFO, name));
		CHECK_EQ(client_result, NBD_HSC_DONE);
		CHECK(same_info());
		CHECK_EQ(s.name_size, NBD_STRING_MAX);
	}
}

static void fill(void *data, size_t size)
{
	for (size_t i = 0; i < size; i++)
		((uint8_t *)data)[i] = (uint8_t)draw(&seed, 256);
}

/* A string of up to size characters that are allowed in one. */
static void fill_text(char *text, size_t size)
{
	size_t length = 1 + draw(&seed, (uint32_t)size);

	for (size_t i = 0; i < length; i++)
		text[i] = (char)(' ' + draw(&seed, 95));
	text[length] = '\0';
}

static void new_world_with_sessions(void)
{
	new_world();
	world.says_session = true;
	world.knows_sessions = true;
	fill(world.session.id, sizeof(world.session.id));
	fill(&world.session.slot, sizeof(world.session.slot));
	fill(&world.session.generation, sizeof(world.session.generation));
	fill_text(world.session.machine, NBD_SESSION_MACHINE_MAX);
	fill_text(world.session.host, NBD_SESSION_HOST_MAX);
	fill(world.session_reply.boot_id, sizeof(world.session_reply.boot_id));
	fill(world.session_reply.image_id, sizeof(world.session_reply.image_id));
	fill(&world.session_reply.generation, sizeof(world.session_reply.generation));
	world.session_reply.durability = (enum nbd_durability)draw(&seed, 2);
}

static bool same_reply(void)
{
	const struct nbd_session_reply *a = &c.session_reply, *b = &world.session_reply;

	return c.has_session_reply && memcmp(a->boot_id, b->boot_id, sizeof(a->boot_id)) == 0 &&
	       memcmp(a->image_id, b->image_id, sizeof(a->image_id)) == 0 &&
	       a->generation == b->generation && a->durability == b->durability &&
	       a->is_refused == b->is_refused && strcmp(a->holder, b->holder) == 0;
}

TEST(a_session_arrives_whole_and_so_does_its_reply)
{
	seed = 9;
	for (int i = 0; i < ROUNDS; i++) {
		new_world_with_sessions();
		CHECK(meet(NBD_HSC_GOAL_GO, world.names[i % 3]));
		CHECK_EQ(client_result, NBD_HSC_DONE);
		CHECK_EQ(server_event, NBD_HSS_DONE);
		CHECK(same_info() && same_reply() && pipes_are_empty());
		CHECK(s.has_session);
		CHECK(memcmp(s.session.id, world.session.id, sizeof(s.session.id)) == 0);
		CHECK_EQ(s.session.slot, world.session.slot);
		CHECK_EQ(s.session.generation, world.session.generation);
		CHECK_STR(s.session.machine, world.session.machine);
		CHECK_STR(s.session.host, world.session.host);
	}
}

TEST(a_session_that_the_server_does_not_know_or_cannot_place_changes_nothing)
{
	seed = 10;
	for (int i = 0; i < ROUNDS; i++) {
		new_world_with_sessions();
		world.knows_sessions = false;
		CHECK(meet(NBD_HSC_GOAL_GO, world.names[i % 3]));
		CHECK_EQ(client_result, NBD_HSC_DONE);
		CHECK(same_info() && pipes_are_empty());
		CHECK(!s.has_session && !c.has_session_reply);
	}
}

TEST(a_refused_session_ends_both_ends_and_names_the_holder)
{
	seed = 11;
	for (int i = 0; i < ROUNDS; i++) {
		new_world_with_sessions();
		world.session_reply.is_refused = true;
		fill_text(world.session_reply.holder, NBD_SESSION_HOLDER_MAX);
		CHECK(meet(NBD_HSC_GOAL_GO, world.names[i % 3]));
		CHECK_EQ(client_result, NBD_HSC_E_REFUSED);
		CHECK_EQ(server_event, NBD_HSS_CLOSE);
		CHECK(same_reply());
		CHECK_EQ(c.rep_error, NBD_REP_ERR_POLICY);
		CHECK_STR(c.text, world.session_reply.holder);
	}
}
