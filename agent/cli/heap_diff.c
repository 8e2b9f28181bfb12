/* Two heap snapshots compared by class, offline: both are read as they stream by, one after the other, so that memory stays at a few
 * MiB whatever their size. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <sysexits.h>
#include <zlib.h>

#include "agent/base/limits.h"
#include "agent/base/mem.h"
#include "agent/base/text.h"
#include "agent/cli/cli.h"
#include "agent/cli/client.h"
#include "agent/human.h"
#include "collectors/heapsnapshot/diff.h"

#define CHUNK_BYTES  65536
#define OUT_BYTES    (32 * 1024 * 1024)
#define NAME_COLUMNS 44
#define ROWS         40
#define WHY_BYTES    256

static const char help[] =
    "usage: pillion heap-diff BEFORE AFTER [--json] [--top N]\n\n"
    "Compares two heap snapshots (.heapsnapshot, plain or gzip; - is standard input) by class:\n"
    "how many objects there are, their own size, and how both changed, what grew most first.\n"
    "Needs no helper and no Node.js, and a few MiB of memory whatever the size of the files.\n\n"
    "  --top N    so many classes (40; with --json all); 0: all of them\n"
    "  --json     one JSON object\n\n"
    "Examples:\n"
    "  pillion heap-diff monday.heapsnapshot.gz friday.heapsnapshot.gz\n"
    "  pillion heap-diff a.heapsnapshot b.heapsnapshot --json | jq '.classes[0]'\n\n"
    "Ends with 65 when a file is no heap snapshot or not whole, with 66 when it cannot be read.\n";

struct arguments {
    const char *files[2];
    unsigned n_files;
    bool json, have_top;
    uint64_t top; /* 0: all */
};

struct input {
    const char *name;
    int fd;
    bool gzip, inflating, ended; /* ended: after the end of a member */
    z_stream z;
    unsigned char in[CHUNK_BYTES], out[CHUNK_BYTES];
    struct heapsnapshot *snapshot;
    char why[WHY_BYTES];
};

/* --- reading ---------------------------------------------------------------------------------- */

static void *z_alloc(void *opaque, unsigned n, unsigned size) {
    (void)opaque;
    return mem_calloc(n, size);
}

static void z_free(void *opaque, void *p) {
    (void)opaque;
    mem_free(p);
}

static int wrong(struct input *in, int code, const char *what) {
    (void)snprintf(in->why, sizeof(in->why), "%s", what);
    return code;
}

static int push(struct input *in, const unsigned char *data, size_t len) {
    int rc = heapsnapshot_push(in->snapshot, (const char *)data, len);

    if (rc != 0)
        return wrong(in, rc == -EINVAL ? EX_DATAERR : EX_OSERR, heapsnapshot_error(in->snapshot));
    return EX_OK;
}

/* Members of a gzip file follow one another. */
static int inflate_chunk(struct input *in, size_t len) {
    int code = EX_OK;

    in->z.next_in = in->in;
    in->z.avail_in = (unsigned)len;
    do {
        int z;

        if (in->ended && inflateReset(&in->z) != Z_OK)
            return wrong(in, EX_OSERR, "zlib refuses");
        in->ended = false;
        in->z.next_out = in->out;
        in->z.avail_out = CHUNK_BYTES;
        z = inflate(&in->z, Z_NO_FLUSH);
        if (z == Z_MEM_ERROR)
            return wrong(in, EX_OSERR, strerror(ENOMEM));
        if (z != Z_OK && z != Z_STREAM_END && z != Z_BUF_ERROR)
            return wrong(in, EX_DATAERR, "its gzip data are damaged");
        in->ended = z == Z_STREAM_END;
        code = push(in, in->out, CHUNK_BYTES - in->z.avail_out);
    } while (code == EX_OK && (in->z.avail_in > 0 || in->z.avail_out == 0));
    return code;
}

static int take(struct input *in, size_t len, bool first) {
    if (first)
        in->gzip = len >= 2 && in->in[0] == 0x1f && in->in[1] == 0x8b;
    if (!in->gzip)
        return push(in, in->in, len);
    if (!in->inflating) {
        in->z = (z_stream){.zalloc = z_alloc, .zfree = z_free};
        if (inflateInit2(&in->z, 15 + 16) != Z_OK)
            return wrong(in, EX_OSERR, strerror(ENOMEM));
        in->inflating = true;
    }
    return inflate_chunk(in, len);
}

/* Fills the whole buffer, so that the first bytes of a pipe tell what comes. */
static ssize_t fill(struct input *in) {
    size_t len = 0;

    while (len < CHUNK_BYTES) {
        ssize_t n = read(in->fd, in->in + len, CHUNK_BYTES - len);

        if (n == 0)
            break;
        if (n < 0 && errno != EINTR)
            return -errno;
        if (n > 0)
            len += (size_t)n;
    }
    return (ssize_t)len;
}

static int read_all(struct input *in) {
    bool first = true;
    int code;

    for (;;) {
        ssize_t n = fill(in);

        if (n < 0)
            return wrong(in, EX_NOINPUT, strerror((int)-n));
        if (n == 0)
            break;
        if ((code = take(in, (size_t)n, first)) != EX_OK)
            return code;
        first = false;
    }
    if (in->gzip && !in->ended)
        return wrong(in, EX_DATAERR, "its gzip data end in the middle: the file is cut off");
    if (heapsnapshot_end(in->snapshot) != 0)
        return wrong(in, EX_DATAERR, heapsnapshot_error(in->snapshot));
    return EX_OK;
}

/* *ret is the caller's also when the code is not EX_OK. */
static int read_file(const char *name, struct heapsnapshot **ret) {
    struct input *in = mem_calloc(1, sizeof(*in));
    int code;

    if (in == NULL || heapsnapshot_new(ret) != 0) {
        mem_free(in);
        (void)fprintf(stderr, "pillion heap-diff: %s\n", strerror(ENOMEM));
        return EX_OSERR;
    }
    in->snapshot = *ret;
    in->fd = strcmp(name, "-") == 0 ? STDIN_FILENO : open(name, O_RDONLY | O_CLOEXEC);
    code = in->fd < 0 ? wrong(in, EX_NOINPUT, strerror(errno)) : read_all(in);
    if (code != EX_OK)
        (void)fprintf(stderr, "pillion heap-diff: %s: %s\n", name, in->why);
    if (in->inflating)
        (void)inflateEnd(&in->z); /* frees */
    if (in->fd > STDIN_FILENO)
        close(in->fd);
    mem_free(in);
    return code;
}

/* --- writing ---------------------------------------------------------------------------------- */

static void put_signed_bytes(struct buf *b, uint64_t before, uint64_t after, int width) {
    char text[HUMAN_BYTES], all[HUMAN_BYTES + 1];

    human_bytes(after >= before ? (double)(after - before) : (double)(before - after), text);
    (void)snprintf(all, sizeof(all), "%s%s",
                   after > before   ? "+"
                   : after < before ? "-"
                                    : "",
                   text);
    buf_printf(b, "%*s", width, all);
}

static void put_line(struct buf *b, const char *name, const struct heapsnapshot_class *before,
                     const struct heapsnapshot_class *after) {
    char bytes[HUMAN_BYTES];

    human_cell(b, name, NAME_COLUMNS, true, true);
    human_bytes((double)after->bytes, bytes);
    buf_printf(b, " %11" PRIu64 " %+11" PRId64 " %8s ", after->count,
               (int64_t)(after->count - before->count), bytes);
    put_signed_bytes(b, before->bytes, after->bytes, 8);
    if (before->detached != 0 || after->detached != 0)
        buf_printf(b, "  detached %" PRIu64 " %+" PRId64, after->detached,
                   (int64_t)(after->detached - before->detached));
    buf_putc(b, '\n');
}

static void put_text(struct buf *b, const struct heapsnapshot_summary *before,
                     const struct heapsnapshot_summary *after,
                     const struct heapsnapshot_change *rows, size_t n, size_t most) {
    human_cell(b, "class", NAME_COLUMNS, true, true);
    buf_printf(b, " %11s %11s %8s %8s\n", "count", "change", "size", "change");
    put_line(b, "all", &before->total, &after->total);
    for (size_t i = 0; i < n && i < most; i++)
        put_line(b, rows[i].name, &rows[i].before, &rows[i].after);
    if (n > most)
        buf_printf(b, "%zu more classes changed; --top 0 shows them\n", n - most);
    if (n == 0)
        buf_puts(b, "no class changed\n");
    if (before->capped || after->capped)
        buf_printf(b, "there are more than %d classes: the later ones are in (other classes)\n",
                   LIMIT_HEAP_CLASSES);
}

static void put_side(struct buf *b, const char *key, const char *file,
                     const struct heapsnapshot_summary *s) {
    buf_printf(b, "\"%s\":{\"file\":", key);
    buf_json_string(b, file);
    buf_printf(b,
               ",\"nodes\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"detached\":%" PRIu64
               ",\"classes\":%zu,\"capped\":%s},",
               s->total.count, s->total.bytes, s->total.detached, s->n_classes,
               s->capped ? "true" : "false");
}

static void put_json(struct buf *b, const struct arguments *a,
                     const struct heapsnapshot_summary *before,
                     const struct heapsnapshot_summary *after,
                     const struct heapsnapshot_change *rows, size_t n, size_t most) {
    buf_putc(b, '{');
    put_side(b, "before", a->files[0], before);
    put_side(b, "after", a->files[1], after);
    buf_printf(b, "\"changed\":%zu,\"classes\":[", n);
    for (size_t i = 0; i < n && i < most; i++) {
        const struct heapsnapshot_class *x = &rows[i].before, *y = &rows[i].after;

        buf_puts(b, i > 0 ? ",{\"class\":" : "{\"class\":");
        buf_json_string(b, rows[i].name);
        buf_printf(b,
                   ",\"count_before\":%" PRIu64 ",\"count_after\":%" PRIu64
                   ",\"bytes_before\":%" PRIu64 ",\"bytes_after\":%" PRIu64
                   ",\"detached_before\":%" PRIu64 ",\"detached_after\":%" PRIu64 "}",
                   x->count, y->count, x->bytes, y->bytes, x->detached, y->detached);
    }
    buf_puts(b, "]}\n");
}

static int compare(const struct arguments *a, const struct heapsnapshot *x,
                   const struct heapsnapshot *y) {
    const struct heapsnapshot_summary *before = heapsnapshot_summary(x),
                                      *after = heapsnapshot_summary(y);
    size_t n, most = a->have_top ? (size_t)a->top : a->json ? 0 : ROWS;
    struct heapsnapshot_change *rows;
    struct buf out;
    int code;

    if (heapsnapshot_diff(before, after, &rows, &n) != 0) {
        (void)fprintf(stderr, "pillion heap-diff: %s\n", strerror(ENOMEM));
        return EX_OSERR;
    }
    if (most == 0)
        most = SIZE_MAX;
    buf_init(&out, OUT_BYTES);
    if (a->json)
        put_json(&out, a, before, after, rows, n, most);
    else
        put_text(&out, before, after, rows, n, most);
    code = client_print(&out);
    buf_clear(&out);
    mem_free(rows);
    return code;
}

/* --- arguments -------------------------------------------------------------------------------- */

static int read_argument(struct arguments *a, int argc, char **argv, int *i) {
    const char *arg = argv[*i];
    char why[WHY_BYTES];

    if (strcmp(arg, "--json") == 0) {
        a->json = true;
    } else if (strcmp(arg, "--top") == 0) {
        if (*i + 1 >= argc || text_u64(argv[++*i], &a->top) != 0)
            return client_usage(argv[0], "--top wants a number of classes, 0 for all");
        a->have_top = true;
    } else if (arg[0] == '-' && arg[1] != '\0') {
        (void)snprintf(why, sizeof(why), "'%.100s' is not an argument of it", arg);
        return client_usage(argv[0], why);
    } else if (a->n_files == 2) {
        return client_usage(argv[0], "it compares two files, and here is a third");
    } else {
        a->files[a->n_files++] = arg;
    }
    return EX_OK;
}

static int read_arguments(struct arguments *a, int argc, char **argv) {
    int code;

    for (int i = 1; i < argc; i++)
        if ((code = read_argument(a, argc, argv, &i)) != EX_OK)
            return code;
    if (a->n_files != 2)
        return client_usage(argv[0], "two snapshots are wanted, BEFORE and AFTER");
    if (strcmp(a->files[0], "-") == 0 && strcmp(a->files[1], "-") == 0)
        return client_usage(argv[0], "only one of the two can be standard input");
    return EX_OK;
}

int cli_heap_diff_main(int argc, char **argv, char *const *env) {
    struct heapsnapshot *snapshots[2] = {NULL, NULL};
    struct arguments a = {0};
    int code = EX_OK;

    (void)env;
    json_set_alloc_funcs(mem_alloc, mem_free);
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return fputs(help, stdout) < 0 ? EX_IOERR : EX_OK;
    code = read_arguments(&a, argc, argv);
    for (unsigned i = 0; i < 2 && code == EX_OK; i++)
        code = read_file(a.files[i], &snapshots[i]);
    if (code == EX_OK)
        code = compare(&a, snapshots[0], snapshots[1]);
    heapsnapshot_free(snapshots[0]);
    heapsnapshot_free(snapshots[1]);
    return code;
}
