#include "agent/init/stop.h"

#include <errno.h>
#include <signal.h>

#include "agent/base/log.h"
#include "agent/base/mem.h"

void stop_init(struct stop *s, uint64_t timeout_ms) {
    *s = (struct stop){.timeout_ms = timeout_ms, .end_at = STOP_NEVER, .kill_at = STOP_NEVER};
}

void stop_clear(struct stop *s) {
    pids_clear(&s->told);
}

/* The helper's part of the time. */
static uint64_t reserve_ms(const struct stop *s) {
    return s->timeout_ms >= 2000 ? 1000 : s->timeout_ms / 2;
}

static void start_clock(struct stop *s, uint64_t from_ms) {
    s->end_at = from_ms + s->timeout_ms;
    s->kill_at = s->end_at - reserve_ms(s);
}

void stop_ask(struct stop *s, uint64_t now_ms) {
    if (s->phase != STOP_NO)
        return;
    s->phase = STOP_ASKED;
    start_clock(s, now_ms);
}

void stop_hint(struct stop *s, uint64_t now_ms) {
    s->hint_ms = now_ms;
}

void stop_main_gone(struct stop *s, uint64_t now_ms) {
    bool hinted = s->hint_ms != 0 && now_ms - s->hint_ms < s->timeout_ms;

    if (s->phase >= STOP_DRAIN)
        return;
    if (s->phase == STOP_NO)
        start_clock(s, hinted ? s->hint_ms : now_ms);
    s->phase = STOP_DRAIN;
}

/* Everybody who comes to us now has lost the one who could have told it. Out of memory: better not told than told twice. */
static bool tell(void *arg, pid_t pid) {
    struct stop *s = arg;

    if (pids_add(&s->told, pid) != 0 || (s->group != 0 && getpgid(pid) == s->group))
        return true;
    if (kill(pid, SIGTERM) != 0 && errno == EPERM)
        log_debug("pid %ld runs as another user and cannot be told to stop", (long)pid);
    return true;
}

/* Level by level: the children of whom we kill come to us, and the next round is theirs. `told` has who was killed already. */
static bool kill_child(void *arg, pid_t pid) {
    struct stop *s = arg;

    if (pids_add(&s->told, pid) != -EEXIST)
        (void)kill(pid, SIGKILL);
    return true;
}

static void step_kill(struct stop *s, pid_t helper, uint64_t now_ms) {
    if (!s->killing) {
        log_warn("not all processes ended in %.3g s: what is left is killed",
                 (double)(s->timeout_ms - reserve_ms(s)) / 1000);
        pids_clear(&s->told);
    }
    s->killing = true;
    (void)children_each(helper, kill_child, s);
    s->kill_at = now_ms + STOP_KILL_EVERY_MS;
}

static void step_flush(struct stop *s, pid_t helper, uint64_t now_ms) {
    if (helper == 0) {
        s->phase = STOP_DONE;
    } else if (now_ms >= s->end_at) {
        log_warn("the helper did not end in time and is killed");
        (void)kill(helper, SIGKILL);
        s->phase = STOP_DONE;
    }
}

static void enter_flush(struct stop *s, pid_t helper, uint64_t now_ms) {
    s->phase = STOP_FLUSH;
    if (helper != 0)
        (void)kill(helper, SIGTERM);
    if (s->end_at <= now_ms) /* what cannot be killed has used up the time */
        s->end_at = now_ms + 1;
    step_flush(s, helper, now_ms);
}

void stop_step(struct stop *s, pid_t helper, uint64_t now_ms) {
    if (s->phase == STOP_FLUSH)
        step_flush(s, helper, now_ms);
    if (s->phase != STOP_ASKED && s->phase != STOP_DRAIN)
        return;
    if (s->phase == STOP_DRAIN && !children_left(helper)) {
        enter_flush(s, helper, now_ms);
    } else if (!s->killing && now_ms >= s->kill_at) {
        step_kill(s, helper, now_ms);
        if (s->end_at < now_ms + STOP_LAST_MS) /* we come late: we were stopped ourselves */
            s->end_at = now_ms + STOP_LAST_MS;
    } else if (now_ms >= s->end_at) {
        enter_flush(s, helper, now_ms);
    } else if (s->killing) {
        step_kill(s, helper, now_ms);
    } else if (s->phase == STOP_DRAIN) {
        (void)children_each(helper, tell, s);
    }
}

uint64_t stop_next(const struct stop *s) {
    switch (s->phase) {
    case STOP_ASKED:
        return s->kill_at;
    case STOP_DRAIN:
        return s->kill_at < s->end_at ? s->kill_at : s->end_at;
    case STOP_FLUSH:
        return s->end_at;
    default:
        return STOP_NEVER;
    }
}
