/* SPDX-License-Identifier: GPL-2.0-or-later */
/* nbdclient: which command it is. What each does is in attach.h and query.h. */
#include "attach.h"
#include "base/log.h"
#include "options.h"
#include "query.h"

#include <stdio.h>

int main(int argc, char **argv)
{
	static struct options o;
	int r;

	log_init("nbdclient");
	r = options_parse(&o, argc, argv);
	if (r != 0)
		return r;

	switch (o.command) {
	case OPTIONS_ATTACH: return attach_run(&o, argv[0]);
	case OPTIONS_DETACH: return detach_run(&o);
	case OPTIONS_RESUME: return resume_run(&o);
	case OPTIONS_STATUS: return query_status(&o);
	case OPTIONS_INFO: return query_info(&o);
	case OPTIONS_LIST: return query_list(&o);
	case OPTIONS_HELP: fputs(options_help, stdout); return 0;
	case OPTIONS_VERSION: puts("nbdclient " NBDROOT_VERSION); return 0;
	}
	return 1;
}
