/* SPDX-License-Identifier: GPL-2.0-or-later */
/* nbdclient status, see query.h: what is attached, told from /sys and the residents' pages. */
#include "query.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "base/parse.h"
#include "kernel.h"
#include "status.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct device {
	int index;
	char backend[KERNEL_BACKEND_MAX];
	uint64_t size;
	bool has_page, is_attended;
	struct status st;
};

static void load(struct device *d, int index)
{
	memset(d, 0, sizeof(*d));
	d->index = index;
	d->size = kernel_read_size(index);
	if (status_read_label(index, d->backend) < 0)
		d->backend[0] = '\0';
	d->has_page = status_read(index, &d->st, &d->is_attended) == 0;
}

/* "unattended": I/O goes on, but nobody would notice a lost server. */
static const char *state_of(const struct device *d)
{
	if (!d->has_page || !d->is_attended)
		return "unattended";
	return session_state_name(d->st.state);
}

static uint64_t seconds(uint64_t since_ns)
{
	uint64_t now = clock_now_ns();

	return since_ns > now ? 0 : (now - since_ns) / CLOCK_NS_PER_S;
}

enum { SESSION_TEXT = 2 * NBD_SESSION_ID_SIZE + 1 };

/* As nbdserve shows it. */
static void id_text(const uint8_t id[static NBD_SESSION_ID_SIZE], char out[static SESSION_TEXT])
{
	for (size_t i = 0; i < NBD_SESSION_ID_SIZE; i++)
		snprintf(out + 2 * i, 3, "%02x", id[i]);
}

static const char *durability(const struct epoch *e)
{
	return e->durability == NBD_DURABILITY_WRITE ? "write" : "flush";
}

static void print_epoch(const struct epoch *e)
{
	char boot_id[SESSION_TEXT];

	if (!e->is_known)
		return;
	id_text(e->boot_id, boot_id);
	printf(", \"durability\": \"%s\", \"server_boot_id\": \"%s\"", durability(e), boot_id);
}

/* A successor knows the epoch of the link that it found; the server has not heard of it yet. */
static bool is_known(const struct status *st)
{
	return st->epoch.is_known && st->generation > 0;
}

static void print_text(const struct device *d)
{
	const struct status *st = &d->st;
	bool is_up = session_state_is_up(st->state);
	uint64_t longest_ns = st->longest_ns;
	char session[SESSION_TEXT];

	printf("/dev/nbd%d  %s  %s  %" PRIu64 " bytes\n", d->index, state_of(d),
	       d->backend[0] ? d->backend : "(attached by another program)", d->size);
	if (!d->has_page || !d->is_attended) {
		printf("    nobody looks after it: if its server goes away, I/O waits until\n"
		       "    \"nbdclient attach %s --device /dev/nbd%d\" is run\n",
		       d->backend[0] ? d->backend : "URI", d->index);
		return;
	}
	printf("    server %s, %s for %" PRIu64 " s, nbdclient is process %d\n", st->server,
	       is_up ? "attached" : "without it", seconds(is_up ? st->since_ns : st->lost_ns),
	       (int)st->pid);
	if (!is_up)
		printf("    waits: %s; try %u\n", st->last_error, st->tries);
	else if (st->state == SESSION_SUSPECT)
		printf("    waits: %s\n", st->last_error);
	if (is_known(st)) {
		id_text(st->session_id, session);
		printf("    known to the server as machine %s, session %s, generation %" PRIu64
		       "\n    what it acknowledges survives its power cut %s\n",
		       st->machine, session, st->generation,
		       st->epoch.durability == NBD_DURABILITY_WRITE ? "at once" : "when flushed");
	}
	if (!is_up && seconds(st->lost_ns) * CLOCK_NS_PER_S > longest_ns)
		longest_ns = seconds(st->lost_ns) * CLOCK_NS_PER_S;
	if (st->losses > 0)
		printf("    lost the server %u time%s, longest for %" PRIu64 ".%" PRIu64 " s\n",
		       st->losses, st->losses == 1 ? "" : "s", longest_ns / CLOCK_NS_PER_S,
		       longest_ns / (CLOCK_NS_PER_S / 10) % 10);
}

static void print_json(const struct device *d)
{
	const struct status *st = &d->st;
	char uuid[PARSE_UUID_TEXT], session[SESSION_TEXT];

	printf("{\"device\": \"/dev/nbd%d\", \"state\": \"%s\", \"size\": %" PRIu64
	       ", \"backend\": ",
	       d->index, state_of(d), d->size);
	json_put_string(stdout, d->backend);
	printf(", \"attended\": %s", d->has_page && d->is_attended ? "true" : "false");
	if (d->has_page && d->is_attended) {
		printf(", \"pid\": %d, \"seconds_in_state\": %" PRIu64 ", \"server\": ",
		       (int)st->pid, seconds(st->since_ns));
		json_put_string(stdout, st->server);
		printf(", \"outages\": %u, \"longest_outage_ms\": %" PRIu64 ", \"tries\": %u",
		       st->losses, st->longest_ns / CLOCK_NS_PER_MS, st->tries);
		if (!session_state_is_up(st->state))
			printf(", \"outage_ms\": %" PRIu64,
			       (clock_now_ns() - st->lost_ns) / CLOCK_NS_PER_MS);
		printf(", \"last_error\": ");
		json_put_string(stdout, st->last_error);
		id_text(st->session_id, session);
		printf(", \"session\": \"%s\", \"generation\": %" PRIu64
		       ", \"session_is_known\": %s, \"machine\": ",
		       session, st->generation, is_known(st) ? "true" : "false");
		json_put_string(stdout, st->machine);
		print_epoch(&st->epoch);
		if (st->has_first && st->first.has_uuid) {
			parse_format_uuid(st->first.uuid, uuid);
			printf(", \"filesystem_uuid\": \"%s\"", uuid);
		}
	}
	printf("}");
}

static int by_number(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

/* Each attached device in turn, or the one that was asked for. */
int query_status(const struct options *o)
{
	static int indexes[1024];
	static struct device d;
	size_t count = 0;
	struct dirent *e;
	DIR *dir;

	if (o->index >= 0) {
		if (!kernel_is_attached(o->index)) {
			log_error("/dev/nbd%d is not attached", o->index);
			return 1;
		}
		indexes[count++] = o->index;
	} else {
		dir = opendir("/sys/block");
		while (dir && (e = readdir(dir))) {
			int index = kernel_parse_device(e->d_name);

			if (index >= 0 && kernel_is_attached(index) && count < ARRAY_SIZE(indexes))
				indexes[count++] = index;
		}
		if (dir)
			closedir(dir);
	}

	qsort(indexes, count, sizeof(indexes[0]), by_number);
	if (o->json)
		printf("[");
	for (size_t i = 0; i < count; i++) {
		load(&d, indexes[i]);
		if (o->json) {
			printf("%s", i > 0 ? ",\n " : "");
			print_json(&d);
		} else {
			print_text(&d);
		}
	}
	if (o->json)
		printf("]\n");
	else if (count == 0)
		printf("nothing is attached\n");
	return 0;
}
