/* The kernel's own price of a container: clone into new namespaces, exec of `busybox true`, wait.
 * Prints the median of 200 in milliseconds. Needs root.    cc -O2 -o floor floor.c && ./floor PATH-OF-BUSYBOX */
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { TIMES = 200 };

static const unsigned long NAMESPACES =
    CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWCGROUP | CLONE_NEWNET;

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

/* Milliseconds, or a negative number. */
static double once(char **command)
{
	int status;
	double start = now();
	long pid = syscall(SYS_clone, NAMESPACES | SIGCHLD, 0, 0, 0, 0);
	if (pid == 0) {
		execv(command[0], command);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
		return -1;
	return now() - start;
}

static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
	double times[TIMES];
	if (argc != 2)
		return 2;
	char *command[] = { argv[1], "true", NULL };
	for (int i = 0; i < TIMES; i++)
		if ((times[i] = once(command)) < 0) {
			perror("floor");
			return 1;
		}
	qsort(times, TIMES, sizeof *times, ascending);
	printf("%.4f\n", times[TIMES / 2]);
	return 0;
}
