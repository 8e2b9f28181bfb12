/* Happy path: options → the helper → take the terminal → (pages → frame → wait for a key, a signal
 * or the next interval) … → give the terminal back. Signals come through a descriptor, so that none
 * of them can end us while the terminal is ours.
 *
 * It fails by: no helper at the start (69, as for every command); a helper that goes away while
 * we run: the last numbers stay, with a line that says so, until it is back; standard output
 * that is gone: we end. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sysexits.h>

#include "agent/base/clock.h"
#include "agent/base/fs.h"
#include "agent/base/limits.h"
#include "agent/base/mem.h"
#include "agent/base/text.h"
#include "agent/cli/cli.h"
#include "agent/cli/client.h"
#include "agent/cli/terminal.h"
#include "agent/cli/top_view.h"
#include "agent/cli/worker_rows.h"

#define FRAME_BYTES (4 * 1024 * 1024)
#define WHY_BYTES   256
#define LEAST_MS    100
#define MOST_MS     3600000

static const char help[] =
    "usage: pillion top [-d SECONDS] [-n COUNT] [--once] [--json]\n\n"
    "Live view of all workers and of the container. Without a terminal (a pipe, docker exec "
    "without\n"
    "-t, TERM=dumb) it prints one plain table each interval.\n\n"
    "  -d SECONDS   interval, 0.1 to 3600 (default 1)\n"
    "  -n COUNT     end after so many\n"
    "  --once       the same as -n 1\n"
    "  --json       one line of JSON each interval: {\"status\":…,\"workers\":[…]}\n\n"
    "Keys: c CPU, m memory, h heap, l loop, g lag, p pid: sort by it; left, right: sort by the\n"
    "neighbour; r: reverse; up, down: scroll; q: quit.\n"
    "CPU% is of one core, LOOP% the share of the time that the event loop is busy, LAG99 the 99th\n"
    "percentile of its delay. \"-\" is what is not known. NO_COLOR is obeyed.\n\n"
    "Examples:\n"
    "  pillion top\n"
    "  docker exec CONTAINER pillion top --once\n"
    "  pillion top -d 10 --json >> top.ndjson\n";

struct top {
    struct client client;
    char *const *env;
    struct terminal terminal;
    int signals; /* descriptor */
    uint64_t interval_ms;
    uint64_t left; /* snapshots to go; UINT64_MAX: no end */
    bool json;
    struct top_view view;
    struct row *rows;
    json_t *status;
    struct buf body, out;
    char trouble[WHY_BYTES];
    bool quit;
    int ended_by; /* signal, 0 */
};

/* --- numbers ---------------------------------------------------------------------------------- */

static int fetch_page(struct top *t, const char *path, json_t **ret) {
    int rc = client_get_quiet(&t->client, path, &t->body, t->trouble);

    if (rc != EX_OK)
        return rc;
    *ret = json_loadb(t->body.data != NULL ? t->body.data : "", t->body.len, JSON_REJECT_DUPLICATES,
                      NULL);
    if (*ret != NULL)
        return EX_OK;
    (void)snprintf(t->trouble, sizeof(t->trouble), "%s is not JSON", path);
    return EX_PROTOCOL;
}

/* Both pages or neither: what is on the screen belongs together. */
static int fetch(struct top *t) {
    json_t *status = NULL, *workers = NULL;
    struct row *rows = NULL;
    size_t n = 0;
    int rc = fetch_page(t, "/status", &status);

    if (rc == EX_OK)
        rc = fetch_page(t, "/workers?history=1", &workers);
    if (rc == EX_OK && worker_rows(workers, &rows, &n) != 0)
        rc = EX_OSERR;
    json_decref(workers);
    if (rc != EX_OK) {
        json_decref(status);
        t->view.trouble = t->trouble;
        return rc;
    }
    json_decref(t->status);
    mem_free(t->rows);
    t->status = status;
    t->rows = rows;
    t->view.status = status;
    t->view.rows = rows;
    t->view.n_rows = n;
    t->view.trouble = NULL;
    return EX_OK;
}

static int write_out(struct top *t) {
    int rc = t->out.err == 0 ? fs_write_all(STDOUT_FILENO, t->out.data, t->out.len) : t->out.err;

    buf_reset(&t->out);
    return rc == 0 ? EX_OK : EX_IOERR;
}

/* The pages as they are, without a look into them. */
static int print_json(struct top *t) {
    int rc = client_get(&t->client, "/status", &t->body);

    if (rc != EX_OK)
        return rc;
    while (t->body.len > 0 && t->body.data[t->body.len - 1] == '\n')
        t->body.data[--t->body.len] = '\0';
    buf_puts(&t->out, "{\"status\":");
    buf_add(&t->out, t->body.data, t->body.len);
    rc = client_get(&t->client, "/workers", &t->body);
    if (rc != EX_OK || t->body.len < 2)
        return rc != EX_OK ? rc : EX_PROTOCOL;
    t->body.data[0] = ','; /* its opening brace */
    buf_add(&t->out, t->body.data, t->body.len);
    return write_out(t);
}

/* --- frames ----------------------------------------------------------------------------------- */

static void prepare_view(struct top *t) {
    size_t room;

    terminal_size(t->env, &t->view.style.width, &t->view.height);
    if (!t->terminal.taken)
        t->view.height = 0;
    else if (t->view.height == 0)
        t->view.height = 24;
    if (t->terminal.taken && t->view.style.width == 0)
        t->view.style.width = 80;
    rows_sort(t->rows, t->view.n_rows, t->view.style.sorted, t->view.reverse);
    room = top_view_room(&t->view);
    if (t->view.first + room > t->view.n_rows)
        t->view.first = t->view.n_rows > room ? t->view.n_rows - room : 0;
}

static int draw_plain(struct top *t) {
    prepare_view(t);
    top_view_write(&t->out, &t->view);
    if (t->left > 1)
        buf_putc(&t->out, '\n');
    return write_out(t);
}

/* Each line is cleared before it is written (behind its end the last column of a full one could
 * go) and what is below at last: no flicker, nothing old. */
static int draw_screen(struct top *t) {
    struct buf lines;
    const char *p, *end;
    size_t n_lines = 0;

    prepare_view(t);
    buf_init(&lines, FRAME_BYTES);
    top_view_write(&lines, &t->view);
    buf_puts(&t->out, "\033[H");
    for (p = lines.data; p != NULL && (end = strchr(p, '\n')) != NULL; p = end + 1, n_lines++) {
        buf_puts(&t->out, "\033[K");
        buf_add(&t->out, p, (size_t)(end - p));
        buf_puts(&t->out, end[1] != '\0' ? "\r\n" : ""); /* behind the last one it would scroll */
    }
    if (n_lines < t->view.height)
        buf_puts(&t->out, "\r\n\033[J");
    if (lines.err != 0)
        t->out.err = lines.err;
    buf_clear(&lines);
    return write_out(t);
}

/* --- keys and signals ------------------------------------------------------------------------- */

static const struct {
    char key;
    enum row_key sort;
} sort_keys[] = {{'p', ROW_PID},  {'c', ROW_CPU},  {'m', ROW_MEMORY},
                 {'h', ROW_HEAP}, {'l', ROW_LOOP}, {'g', ROW_LAG}};

static void sort_by_neighbour(struct top *t, int step) {
    int n = (int)ARRAY_LEN(sort_keys);

    t->view.style.sorted = (enum row_key)(((int)t->view.style.sorted + step + n) % n);
}

/* The last byte of a cursor key's sequence: ESC [ A or ESC O A. */
static void on_cursor_key(struct top *t, char key) {
    if (key == 'A' && t->view.first > 0)
        t->view.first--;
    else if (key == 'B')
        t->view.first++;
    else if (key == 'C' || key == 'D')
        sort_by_neighbour(t, key == 'C' ? 1 : -1);
}

static void on_keys(struct top *t) {
    char keys[64];
    ssize_t n = read(STDIN_FILENO, keys, sizeof(keys));

    if (n <= 0) { /* the terminal has gone, or was closed with Ctrl-D */
        t->terminal.input = false;
        return;
    }
    for (ssize_t i = 0; i < n; i++) {
        if (keys[i] == '\033' && i + 2 < n && (keys[i + 1] == '[' || keys[i + 1] == 'O')) {
            on_cursor_key(t, keys[i + 2]);
            i += 2;
        }
        if (keys[i] == 'q' || keys[i] == 'Q')
            t->quit = true;
        if (keys[i] == 'r')
            t->view.reverse = !t->view.reverse;
        for (size_t k = 0; k < ARRAY_LEN(sort_keys); k++)
            if (keys[i] == sort_keys[k].key)
                t->view.style.sorted = sort_keys[k].sort;
    }
}

static void stop_here(struct top *t) {
    bool live = t->terminal.taken;

    terminal_give_back(&t->terminal);
    (void)raise(SIGSTOP); /* Ctrl-Z; we go on from here with fg */
    if (live)
        terminal_take(&t->terminal);
}

static void on_signal(struct top *t) {
    struct signalfd_siginfo info;

    if (read(t->signals, &info, sizeof(info)) != (ssize_t)sizeof(info))
        return;
    if (info.ssi_signo == SIGTSTP)
        stop_here(t);
    else if (info.ssi_signo == SIGINT)
        t->quit = true;
    else if (info.ssi_signo != SIGWINCH && info.ssi_signo != SIGCONT)
        t->ended_by = (int)info.ssi_signo;
}

static int block_signals(struct top *t) {
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGCONT, SIGWINCH};
    sigset_t set;

    (void)sigemptyset(&set);
    for (size_t i = 0; i < ARRAY_LEN(signals); i++)
        (void)sigaddset(&set, signals[i]);
    (void)signal(SIGPIPE, SIG_IGN); /* a write that fails says so */
    if (sigprocmask(SIG_BLOCK, &set, NULL) != 0)
        return -errno;
    t->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return t->signals >= 0 ? 0 : -errno;
}

/* Until `due`; the screen is drawn anew after whatever came. */
static void wait_until(struct top *t, uint64_t due) {
    while (!t->quit && t->ended_by == 0) {
        uint64_t now = clock_mono_ms();
        struct pollfd fds[2] = {
            {.fd = t->signals, .events = POLLIN},
            {.fd = t->terminal.taken && t->terminal.input ? STDIN_FILENO : -1, .events = POLLIN}};

        if (now >= due || poll(fds, 2, (int)(due - now)) == 0)
            return;
        if (fds[0].revents != 0)
            on_signal(t);
        if (fds[1].revents != 0)
            on_keys(t);
        if (t->terminal.taken && !t->quit && draw_screen(t) != EX_OK)
            t->quit = true;
    }
}

/* --- life ------------------------------------------------------------------------------------- */

static int snapshot(struct top *t) {
    int rc;

    if (t->json)
        return print_json(t);
    rc = fetch(t);
    if (t->terminal.taken)
        return draw_screen(t);
    return rc == EX_OK ? draw_plain(t) : rc;
}

static int run(struct top *t) {
    uint64_t due = clock_mono_ms();
    /* The first request says in full what is wrong, on a screen that is still the user's. */
    int rc = client_get(&t->client, "/healthz", &t->body);

    if (rc == EX_OK && block_signals(t) != 0)
        rc = EX_OSERR;
    if (rc != EX_OK)
        return rc;
    terminal_look(&t->terminal, t->env);
    t->view.style.utf8 = t->terminal.utf8;
    t->view.style.colour = t->terminal.colour && !t->json;
    t->view.style.mark_sorted = true;
    if (!t->json && t->left == UINT64_MAX)
        terminal_take(&t->terminal);
    while (rc == EX_OK && !t->quit && t->ended_by == 0) {
        rc = snapshot(t);
        if (rc != EX_OK || (t->left != UINT64_MAX && --t->left == 0))
            break;
        due += t->interval_ms;
        if (due < clock_mono_ms()) /* it took longer than the interval: none is made up for */
            due = clock_mono_ms();
        wait_until(t, due);
    }
    terminal_give_back(&t->terminal);
    if (rc != EX_OK && rc != EX_IOERR && t->view.trouble != NULL)
        (void)fprintf(stderr, "pillion top: no answer any more: %s\n", t->view.trouble);
    return rc;
}

/* As if the signal had done it at once. */
static void end_by_signal(int signum) {
    sigset_t set;

    (void)signal(signum, SIG_DFL);
    (void)raise(signum);
    (void)sigemptyset(&set);
    (void)sigaddset(&set, signum);
    (void)sigprocmask(SIG_UNBLOCK, &set, NULL);
}

/* 0.5, 10 */
static int read_seconds(const char *s, uint64_t *ret_ms) {
    char *end;
    double v = strtod(s, &end);

    if (end == s || *end != '\0' || !(v * 1000 >= LEAST_MS && v * 1000 <= MOST_MS))
        return -EINVAL;
    *ret_ms = (uint64_t)(v * 1000);
    return 0;
}

static int read_arguments(struct top *t, int argc, char **argv) {
    char wrong[WHY_BYTES];

    for (int i = 1; i < argc; i++) {
        const char *a = argv[i], *value = i + 1 < argc ? argv[i + 1] : "";

        if (strcmp(a, "--json") == 0)
            t->json = true;
        else if (strcmp(a, "--once") == 0)
            t->left = 1;
        else if (strcmp(a, "-n") == 0 && text_u64(value, &t->left) == 0 && t->left > 0)
            i++;
        else if (strcmp(a, "-d") == 0 && read_seconds(value, &t->interval_ms) == 0)
            i++;
        else if (strcmp(a, "-n") == 0 || strcmp(a, "-d") == 0) {
            (void)snprintf(wrong, sizeof(wrong), "%s '%.60s': a number is wanted, %s", a, value,
                           a[1] == 'n' ? "1 or more" : "seconds from 0.1 to 3600");
            return client_usage(argv[0], wrong);
        } else
            return client_arguments(2, (char *[]){argv[0], argv[i], NULL}, help, NULL);
    }
    return -1;
}

int cli_top_main(int argc, char **argv, char *const *env) {
    struct top t = {.env = env, .signals = -1, .interval_ms = 1000, .left = UINT64_MAX};
    int rc;

    t.view.style.sorted = ROW_CPU;
    rc = read_arguments(&t, argc, argv);
    if (rc >= 0)
        return rc;
    buf_init(&t.body, LIMIT_HTTP_PAGE_BYTES);
    buf_init(&t.out, LIMIT_HTTP_PAGE_BYTES);
    rc = client_open(&t.client, argv[0], env);
    if (rc == EX_OK)
        rc = run(&t);
    json_decref(t.status);
    mem_free(t.rows);
    buf_clear(&t.body);
    buf_clear(&t.out);
    client_close(&t.client);
    if (t.signals >= 0)
        close(t.signals);
    if (t.ended_by != 0)
        end_by_signal(t.ended_by);
    return rc;
}
