/* process.h - what /proc tells of a process that does not answer: proc_pid_status(5), proc_pid_net(5), proc_pid_syscall(5).
 *
 * May block for milliseconds (a process with thousands of descriptors): not for the loop thread. */
#ifndef PILLION_CAPTURE_PROCESS_H
#define PILLION_CAPTURE_PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "agent/base/buf.h"

#define PROCESS_PORTS_MAX   64
#define PROCESS_WORDS_BYTES 256

struct process_view {
    int proc_fd; /* /proc */
    pid_t pid;
    uint64_t start_ticks; /* 0: not looked at */
    uint32_t tid;         /* kernel's id of the thread that is looked at; 0: the main thread */
};

/* 0 it is still that process; -ESRCH it is not, or it is a zombie. */
int process_check(const struct process_view *p);
/* 1: it has a handler for SIGUSR1; 0: it has none, so that the signal would kill it or be lost. */
int process_catches_usr1(const struct process_view *p);
/* 1: its loopback is ours; 0: it is another one. */
int process_shares_network(const struct process_view *p);
/* Its sockets that listen on 127.0.0.1: how many, or a negative errno. Only those that are not among the `n_known` of `known`. */
int process_ports(const struct process_view *p, const uint16_t *known, int n_known,
                  uint16_t ports[PROCESS_PORTS_MAX]);
/* {"state":<state>,"thread_state":"S","syscall":"epoll_pwait","wchan":"ep_poll","children":[{"pid":…,"name":…}]}; what cannot be
 * read is null. And the same as words in `ret_words`. */
void process_native(const struct process_view *p, const char *state, struct buf *out,
                    char ret_words[PROCESS_WORDS_BYTES]);

/* "futex", or NULL for one that is not in the table. */
const char *syscall_name(long number);

#endif
