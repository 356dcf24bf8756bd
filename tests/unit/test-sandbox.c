/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a process can and cannot do once it is in the sandbox. Each test is a child process, for
 * there is no way out; it returns the line of the first check that failed. Where the kernel has
 * no Landlock or no seccomp, what these refuse is not checked, and said to be skipped.
 */
#include "tests/unit/tap.h"

#include "base/log.h"
#include "server-tools/nbdserve/sandbox-internal.h"
#include "server-tools/nbdserve/sandbox.h"

#include <fcntl.h>
#include <linux/io_uring.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <pthread.h>
#include <pwd.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>

static char folder[64];

/* In a child: a failed check is its exit status. */
#define MUST(condition)                                                                            \
	do {                                                                                       \
		if (!(condition))                                                                  \
			_exit(failed_at(__LINE__, #condition));                                    \
	} while (0)

static int failed_at(int line, const char *condition)
{
	dprintf(STDOUT_FILENO, "# %s:%d: %s (%s)\n", __FILE__, line, condition, strerror(errno));
	return 1;
}

static bool has_landlock(void)
{
	return syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION) > 0;
}

static bool has_seccomp(void)
{
	unsigned action = SECCOMP_RET_KILL_PROCESS;

	return !SANDBOX_SANITIZER && sizeof(void *) == 8 &&
	       syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0;
}

static void make_file(const char *name, const char *text)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0666);
	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		abort();
	close(fd);
}

static const char *in_folder(const char *name)
{
	static char path[4][128];
	static unsigned next;
	char *out = path[next++ % 4];

	snprintf(out, sizeof(path[0]), "%s/%s", folder, name);
	return out;
}

static void make_folder(void)
{
	static const char *const folders[] = { "rw", "ro", "etc", "run", "other", "more" };

	if (folder[0])
		return;
	strcpy(folder, "/tmp/nbdroot-sandbox-XXXXXX");
	if (!mkdtemp(folder) || chmod(folder, 0777) < 0)
		abort();
	for (size_t i = 0; i < ARRAY_SIZE(folders); i++)
		if (mkdir(in_folder(folders[i]), 0777) < 0 ||
		    chmod(in_folder(folders[i]), 0777) < 0)
			abort();
	make_file("rw/image", "image");
	make_file("ro/image", "image");
	make_file("etc/nbdserve.conf", "# nothing");
	make_file("other/secret", "secret");
	make_file("more/image", "image");
}

__attribute__((destructor)) static void remove_folder(void)
{
	char command[128];

	if (!folder[0])
		return;
	snprintf(command, sizeof(command), "rm -rf %s", folder);
	if (system(command) != 0)
		printf("# cannot remove %s\n", folder);
}

static int enter(const char *user)
{
	struct config c = { 0 };
	char err[CONFIG_ERROR_MAX], text[256];
	char config_text[128];
	const char *config_path = config_text;

	strcpy(config_text, in_folder("etc/nbdserve.conf"));
	snprintf(text, sizeof(text), "a=%s", in_folder("rw/image"));
	MUST(config_add_export(&c, text, err) == 0);
	snprintf(text, sizeof(text), "b=%s,ro", in_folder("ro/image"));
	MUST(config_add_export(&c, text, err) == 0);
	MUST(config_add_directory(&c, in_folder("more"), err) == 0);
	MUST(config_set_control(&c, in_folder("run/control"), err) == 0);
	if (user)
		MUST(config_set_user(&c, user, err) == 0);
	MUST(config_check(&c, err) == 0);
	log_init("test");
	log_set_level(LOG_LEVEL_ERROR);
	return sandbox_enter(&c, &config_path, 1);
}

/* The wait status of a child that runs this. */
static int run(void (*body)(void))
{
	int status;
	pid_t pid;

	make_folder();
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		body();
		_exit(0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return -1;
	return status;
}

static int opens(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC);

	if (fd < 0)
		return 0;
	close(fd);
	return 1;
}

static void images(void)
{
	MUST(enter(NULL) == 0);
	MUST(opens(in_folder("rw/image"), O_RDWR));
	MUST(opens(in_folder("more/image"), O_RDWR));
	MUST(opens(in_folder("ro/image"), O_RDONLY));
	MUST(opens(in_folder("etc/nbdserve.conf"), O_RDONLY));
}

TEST(images_and_the_configuration_can_be_opened_again)
{
	CHECK_EQ(run(images), 0);
}

static int go_pipe[2], done_pipe[2];

static void waits_for_a_new_image(void)
{
	char byte;

	MUST(enter(NULL) == 0);
	MUST(write(go_pipe[1], "", 1) == 1 && read(done_pipe[0], &byte, 1) == 1);
	MUST(opens(in_folder("rw/renamed"), O_RDWR));
}

/* What an administrator does: a new image is renamed to where the old one was. */
TEST(a_file_that_comes_into_an_image_s_folder_later_can_be_opened)
{
	int status;
	char byte;
	pid_t pid;

	make_folder();
	CHECK(pipe2(go_pipe, O_CLOEXEC) == 0 && pipe2(done_pipe, O_CLOEXEC) == 0);
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		waits_for_a_new_image();
		_exit(0);
	}
	close(go_pipe[1]); /* the end of the file is as good as a byte when the child dies */
	CHECK(read(go_pipe[0], &byte, 1) >= 0);
	make_file("other/new", "image");
	CHECK_EQ(rename(in_folder("other/new"), in_folder("rw/renamed")), 0);
	CHECK_EQ(write(done_pipe[1], "", 1), 1);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
}

static void strangers(void)
{
	MUST(opens("/etc/passwd", O_RDONLY));
	MUST(enter(NULL) == 0);
	MUST(!opens("/etc/passwd", O_RDONLY) && errno == EACCES);
	MUST(!opens(in_folder("other/secret"), O_RDONLY) && errno == EACCES);
	MUST(!opens(in_folder("rw/../other/secret"), O_RDONLY) && errno == EACCES);
	MUST(!opens("/dev/zero", O_RDWR) && errno == EACCES);
	MUST(opens("/dev/null", O_RDWR) && chdir("/") == 0); /* what daemons do */
	if (!SANDBOX_SANITIZER)
		MUST(!opens("/proc/self/status", O_RDONLY) && errno == EACCES);
}

TEST(no_other_file_can_be_opened)
{
	if (has_landlock())
		CHECK_EQ(run(strangers), 0);
	else
		printf("# SKIP this kernel has no Landlock\n");
}

static void changes(void)
{
	MUST(enter(NULL) == 0);
	MUST(!opens(in_folder("ro/image"), O_RDWR) && errno == EACCES);
	MUST(!opens(in_folder("etc/nbdserve.conf"), O_RDWR) && errno == EACCES);
	MUST(open(in_folder("rw/new"), O_CREAT | O_RDWR, 0600) < 0 && errno == EACCES);
	MUST(!opens(in_folder("rw/image"), O_RDWR | O_TRUNC));
	MUST(unlink(in_folder("rw/image")) < 0 && errno == EACCES);
	MUST(rename(in_folder("rw/image"), in_folder("rw/gone")) < 0);
	MUST(mkdir(in_folder("rw/folder"), 0700) < 0);
	MUST(symlink("/etc/passwd", in_folder("rw/link")) < 0);
}

TEST(read_only_images_and_the_configuration_cannot_be_changed_and_nothing_created)
{
	if (has_landlock())
		CHECK_EQ(run(changes), 0);
	else
		printf("# SKIP this kernel has no Landlock\n");
}

static void sockets(void)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int fd, client, peer;

	MUST(enter(NULL) == 0);
	strcpy(un.sun_path, in_folder("run/control"));
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	MUST(fd >= 0 && bind(fd, (struct sockaddr *)&un, sizeof(un)) == 0 && listen(fd, 1) == 0);
	client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	MUST(client >= 0 && connect(client, (struct sockaddr *)&un, sizeof(un)) == 0);
	peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
	MUST(peer >= 0 && send(client, "x", 1, MSG_NOSIGNAL) == 1);
	MUST(unlink(un.sun_path) == 0);
	MUST(socket(AF_INET6, SOCK_STREAM, 0) >= 0 || errno == EAFNOSUPPORT);
	MUST(socket(AF_INET, SOCK_STREAM, 0) >= 0);
}

TEST(sockets_can_be_made_and_removed)
{
	CHECK_EQ(run(sockets), 0);
}

static void connects_out(void)
{
	struct sockaddr_in in = { .sin_family = AF_INET,
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t size = sizeof(in);
	int fd = socket(AF_INET, SOCK_STREAM, 0), client;

	MUST(bind(fd, (struct sockaddr *)&in, sizeof(in)) == 0 && listen(fd, 1) == 0);
	MUST(getsockname(fd, (struct sockaddr *)&in, &size) == 0);
	MUST(enter(NULL) == 0);
	client = socket(AF_INET, SOCK_STREAM, 0);
	MUST(connect(client, (struct sockaddr *)&in, sizeof(in)) < 0 && errno == EACCES);
}

TEST(no_other_machine_can_be_called)
{
	if (syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION) >= 4)
		CHECK_EQ(run(connects_out), 0);
	else
		printf("# SKIP this kernel's Landlock has no rules for TCP\n");
}

static void executes(void)
{
	MUST(enter(NULL) == 0);
	execl("/bin/true", "true", (char *)NULL);
}

static void forks(void)
{
	MUST(enter(NULL) == 0);
	MUST(fork() < 0);
}

static void traces(void)
{
	MUST(enter(NULL) == 0);
	syscall(SYS_ptrace, 16 /* PTRACE_ATTACH */, getppid(), NULL, NULL);
}

TEST(no_program_and_no_process_can_be_started)
{
	int status;

	if (!has_seccomp()) {
		printf("# SKIP no seccomp here\n");
		return;
	}
	CHECK_EQ(run(forks), 0);
	status = run(executes);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS);
	status = run(traces);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS);
}

static void odd_calls(void)
{
	void *page;

	MUST(enter(NULL) == 0);
	MUST(socket(AF_NETLINK, SOCK_RAW, 0) < 0 && errno == ENOSYS);
	MUST(ioctl(STDIN_FILENO, TIOCSTI, "x") < 0 && errno == ENOSYS);
	MUST(kill(getppid(), 0) < 0 && errno == ENOSYS);
	MUST(setresuid(0, 0, 0) < 0 && errno == ENOSYS);
	page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	MUST(page != MAP_FAILED);
	MUST(mprotect(page, 4096, PROT_READ | PROT_EXEC) < 0 && errno == ENOSYS);
	MUST(mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) ==
	     MAP_FAILED);
}

TEST(calls_that_a_server_does_not_need_do_not_exist)
{
	if (has_seccomp())
		CHECK_EQ(run(odd_calls), 0);
	else
		printf("# SKIP no seccomp here\n");
}

static void *returns_its_argument(void *arg)
{
	/* of its own arena, which is mapped and protected in the thread */
	void *volatile p = malloc(100000);

	free(p);
	return arg;
}

static void threads(void)
{
	pthread_t thread[8];
	void *result;

	MUST(enter(NULL) == 0);
	for (size_t i = 0; i < ARRAY_SIZE(thread); i++)
		MUST(pthread_create(&thread[i], NULL, returns_its_argument, folder + i) == 0);
	for (size_t i = 0; i < ARRAY_SIZE(thread); i++)
		MUST(pthread_join(thread[i], &result) == 0 && result == folder + i);
}

TEST(threads_can_be_started)
{
	CHECK_EQ(run(threads), 0);
}

static void io_uring(void)
{
	struct io_uring_params params = { 0 };
	long fd = syscall(SYS_io_uring_setup, 4, &params);

	if (fd < 0) { /* forbidden here anyway */
		printf("# SKIP io_uring_setup: %s\n", strerror(errno));
		return;
	}
	MUST(enter(NULL) == 0);
	params = (struct io_uring_params){ 0 };
	fd = syscall(SYS_io_uring_setup, 4, &params);
	MUST(fd >= 0);
	MUST(mmap(NULL, params.sq_off.array + params.sq_entries * 4, PROT_READ | PROT_WRITE,
		  MAP_SHARED | MAP_POPULATE, (int)fd, IORING_OFF_SQ_RING) != MAP_FAILED);
	MUST(syscall(SYS_io_uring_enter, fd, 0, 0, 0, NULL, 0) == 0);
	MUST(syscall(SYS_io_uring_register, fd, IORING_REGISTER_FILES, (int[]){ 0 }, 1) == 0);
}

TEST(an_io_uring_can_be_made)
{
	CHECK_EQ(run(io_uring), 0);
}

static void serving(void)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	struct iovec iov;
	char buffer[16] = "hello";
	int fd, events, poll;
	struct epoll_event event = { .events = EPOLLIN };
	struct stat st;

	MUST(enter(NULL) == 0);
	fd = open(in_folder("rw/image"), O_RDWR | O_CLOEXEC);
	MUST(fd >= 0 && fstat(fd, &st) == 0);
	MUST(fcntl(fd, F_OFD_SETLK, &lock) == 0);
	iov = (struct iovec){ buffer, 5 };
	MUST(pwritev(fd, &iov, 1, 0) == 5 && preadv2(fd, &iov, 1, 0, 0) == 5);
	MUST(fdatasync(fd) == 0 && lseek(fd, 0, SEEK_DATA) == 0);
	MUST(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 4096) == 0 || errno == EOPNOTSUPP);
	events = eventfd(0, EFD_CLOEXEC);
	poll = epoll_create1(EPOLL_CLOEXEC);
	MUST(events >= 0 && poll >= 0);
	MUST(epoll_ctl(poll, EPOLL_CTL_ADD, events, &event) == 0);
	MUST(epoll_wait(poll, &event, 1, 1) == 0);
	MUST(ioctl(fd, FIONREAD, &(int){ 0 }) == 0);
	MUST(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
}

TEST(images_can_be_locked_read_written_and_waited_for)
{
	CHECK_EQ(run(serving), 0);
}

/* ---- the user ----------------------------------------------------------------------------- */

static void becomes_nobody(void)
{
	struct passwd *pw = getpwnam("nobody");

	MUST(pw != NULL);
	MUST(enter("nobody") == 0);
	MUST(getuid() == pw->pw_uid && geteuid() == pw->pw_uid);
	MUST(getgid() == pw->pw_gid && getegid() == pw->pw_gid);
	MUST(setresuid(0, 0, 0) < 0);
	MUST(opens(in_folder("rw/image"), O_RDONLY));
}

static void no_such_user(void)
{
	log_set_fd(-1, 0);
	MUST(enter("no-such-user-here") == -ENOENT);
}

static void nobody_stays_nobody(void)
{
	struct passwd *pw = getpwnam("nobody");

	MUST(pw != NULL && setresuid(pw->pw_uid, pw->pw_uid, pw->pw_uid) == 0);
	MUST(enter("nobody") == 0);
}

static void nobody_becomes_daemon(void)
{
	struct passwd *pw = getpwnam("nobody");

	log_set_fd(-1, 0);
	MUST(pw != NULL && setresuid(pw->pw_uid, pw->pw_uid, pw->pw_uid) == 0);
	MUST(enter("daemon") == -EPERM);
}

TEST(root_becomes_the_user_and_cannot_go_back)
{
	if (geteuid() == 0)
		CHECK_EQ(run(becomes_nobody), 0);
	else
		printf("# SKIP only root can become somebody else\n");
}

TEST(a_user_that_is_not_there_is_an_error)
{
	CHECK_EQ(run(no_such_user), 0);
}

TEST(who_is_the_user_already_need_not_be_root_and_another_must)
{
	if (geteuid() != 0) {
		printf("# SKIP only root can become somebody else\n");
		return;
	}
	CHECK_EQ(run(nobody_stays_nobody), 0);
	CHECK_EQ(run(nobody_becomes_daemon), 0);
}

static void *waits(void *arg)
{
	pause();
	return arg;
}

static void with_a_thread(void)
{
	pthread_t thread;

	log_set_fd(-1, 0);
	MUST(pthread_create(&thread, NULL, waits, NULL) == 0);
	MUST(enter(NULL) == -EBUSY);
}

TEST(a_process_with_threads_is_not_let_in)
{
	if (SANDBOX_SANITIZER)
		printf("# SKIP a sanitizer may have a thread of its own\n");
	else
		CHECK_EQ(run(with_a_thread), 0);
}
