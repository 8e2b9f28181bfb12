/* inittool.c - for the tests of `pillion run`: what cannot be done from JavaScript.
 *
 *   inittool signals            blocks every signal, says "ready", then "got N" for each; ends with 0 after SIGTERM
 *   inittool orphans N          leaves N orphans; says "ready"; on SIGUSR1 they all exit at once, the ith with i % 200; ends on SIGTERM
 *   inittool with I,J B,C CMD   ignores signals I,J, blocks B,C ("-": none) and executes CMD */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void say(const char *text, int n) {
    char line[64];
    int len = snprintf(line, sizeof(line), text, n);

    if (write(STDOUT_FILENO, line, (size_t)len) != len)
        _exit(1);
}

static int signals(void) {
    sigset_t all;
    int sig;

    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    say("ready\n", 0);
    do {
        sig = sigwaitinfo(&all, NULL);
        if (sig > 0)
            say("got %d\n", sig);
    } while (sig != SIGTERM);
    return 0;
}

static void leave_orphans(const int fds[2], int n) {
    char c;

    close(fds[1]);
    for (int i = 0; i < n; i++) {
        pid_t pid = fork();

        if (pid < 0)
            _exit(1);
        if (pid == 0) {
            signal(SIGUSR1, SIG_IGN);
            _exit(read(fds[0], &c, 1) == 0 ? i % 200 : 255);
        }
    }
    _exit(0);
}

static int orphans(int n) {
    int fds[2], sig, status = 0;
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, NULL);
    if (pipe(fds) != 0)
        return 1;
    if (fork() == 0)
        leave_orphans(fds, n);
    wait(&status);
    if (status != 0)
        return 1;
    say("ready\n", 0);
    while ((sig = sigwaitinfo(&set, NULL)) != SIGTERM)
        if (sig == SIGUSR1) {
            close(fds[1]);
            say("released\n", 0);
        }
    return 0;
}

static void each(char *list, void (*fn)(int)) {
    for (char *p = strtok(list, ","); p != NULL; p = strtok(NULL, ","))
        fn(atoi(p));
}

static void ignore(int sig) {
    if (sig > 0)
        signal(sig, SIG_IGN);
}

static void block(int sig) {
    sigset_t set;

    sigemptyset(&set);
    if (sig > 0)
        sigaddset(&set, sig);
    sigprocmask(SIG_BLOCK, &set, NULL);
}

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "signals") == 0)
        return signals();
    if (argc == 3 && strcmp(argv[1], "orphans") == 0)
        return orphans(atoi(argv[2]));
    if (argc > 4 && strcmp(argv[1], "with") == 0) {
        each(argv[2], ignore);
        each(argv[3], block);
        execvp(argv[4], argv + 4);
    }
    return 64;
}
