/* SPDX-License-Identifier: GPL-2.0-or-later */
/* `nbdroot image create|info|check`: options to actions. Returns exit statuses. */
#ifndef NBDROOT_IMAGE_H
#define NBDROOT_IMAGE_H

/* argv[0] is "image". */
int image_main(int argc, char *argv[]);

#endif
