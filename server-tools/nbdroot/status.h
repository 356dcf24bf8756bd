/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * `nbdroot status`, `nbdroot reload` and `nbdroot client list|disconnect|release`: a running
 * server looked at and told what to do. Each returns an exit status.
 */
#ifndef NBDROOT_STATUS_H
#define NBDROOT_STATUS_H

/* argv[0] is "status", "reload", "client". */
int status_main(int argc, char *argv[]);
int reload_main(int argc, char *argv[]);
int client_main(int argc, char *argv[]);

#endif
