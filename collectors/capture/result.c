/* result.c - see result.h. Small results are JSON, what is larger is a file; facts of a profile say which way it came and how often V8
 * really looked. */
#include "collectors/capture/result.h"

#include <errno.h>
#include <string.h>

#include "agent/base/mem.h"
#include "agent/base/text.h"

#define JSON_BYTES    (1024 * 1024)
#define SUMMARY_TOP   50
#define HISTOGRAM_TOP 1000

static const char *const EXTENSIONS[CAPTURE_ACTIONS] = {
    [CAPTURE_HEAP_SNAPSHOT] = "heapsnapshot.gz",
    [CAPTURE_CPU_PROFILE] = "cpuprofile.gz",
    [CAPTURE_HEAP_PROFILE] = "heapprofile.gz",
    [CAPTURE_REPORT] = "report.json.gz",
};

const char *result_extension(enum capture_action action) {
    return EXTENSIONS[action];
}

static void add_file(struct capture_result *r, struct output *o, const char *kind,
                     const char *extension) {
    struct capture_file *f = &r->files[r->n_files++];

    f->kind = kind;
    f->extension = extension;
    f->name = output_name(o);
    f->bytes = output_file_bytes(o);
    (void)text_copy(f->sha256, sizeof(f->sha256), output_sha256(o));
    output_keep(o);
}

static void write_profile(struct buf *out, const struct capture_job *job,
                          const struct result_facts *facts) {
    const struct output_profile *p = output_profile(job->out);

    buf_printf(out, "{\"way\":\"%s\",\"seconds\":%u", facts->stuck ? "inspector" : "worker",
               job->order.seconds);
    if (job->order.action == CAPTURE_CPU_PROFILE)
        buf_printf(out, ",\"interval_us\":%u", job->order.interval_us);
    if (p->samples > 0 && p->end_us > p->start_us)
        buf_printf(out, ",\"samples\":%llu,\"real_interval_us\":%llu",
                   (unsigned long long)p->samples,
                   (unsigned long long)((p->end_us - p->start_us) / p->samples));
    if (!facts->stuck)
        buf_printf(out, ",\"start_stall_ms\":%.1f,\"stop_stall_ms\":%.1f", facts->start_stall_ms,
                   facts->stop_stall_ms);
    if (job->text.len > 0) {
        buf_puts(out, ",\"stack\":");
        buf_add(out, job->text.data, job->text.len);
    }
    buf_putc(out, '}');
}

static void write_json(struct buf *out, const struct capture_job *job,
                       const struct result_facts *facts) {
    const char *text;
    size_t len = 0;

    switch (job->order.action) {
    case CAPTURE_CPU_PROFILE:
    case CAPTURE_HEAP_PROFILE:
        write_profile(out, job, facts);
        break;
    case CAPTURE_HEAP_SNAPSHOT:
        output_summary(job->out, SUMMARY_TOP, out);
        break;
    case CAPTURE_HEAP_HISTOGRAM:
        output_summary(job->out, HISTOGRAM_TOP, out);
        break;
    case CAPTURE_REPORT:
        break;
    case CAPTURE_STACK:
    case CAPTURE_GC_TRACE:
        text = job->out != NULL && job->text.len == 0 ? output_text(job->out, &len) : NULL;
        if (text != NULL)
            buf_add(out, text, len);
        else
            buf_add(out, job->text.data, job->text.len);
    }
}

static int check(const struct result_facts *facts, const struct capture_job *job,
                 char reason[512]) {
    if (!facts->confirmed || facts->bytes == output_raw_bytes(job->out))
        return 0;
    (void)snprintf(reason, 512, "the worker wrote %llu bytes and %llu came",
                   (unsigned long long)facts->bytes,
                   (unsigned long long)output_raw_bytes(job->out));
    return -EBADMSG;
}

void result_make(struct result *r, struct capture_job *job, const struct result_facts *facts,
                 int rc, const char *reason) {
    enum capture_action action = job->order.action;

    memset(r, 0, sizeof(*r));
    buf_init(&r->json, JSON_BYTES);
    (void)text_copy(r->reason, sizeof(r->reason), reason);
    if (rc == 0)
        rc = check(facts, job, r->reason);
    if (rc == 0) {
        write_json(&r->json, job, facts);
        rc = r->json.err;
        if (rc != 0)
            (void)text_copy(r->reason, sizeof(r->reason),
                            rc == -ENOMEM ? "no memory" : "the result is too long");
    } else if (job->text.len > 0) {
        buf_add(&r->json, job->text.data,
                job->text.len); /* where it is instead; without it the reason is enough */
    }
    r->result.rc = rc;
    r->result.reason = rc != 0 ? r->reason : NULL;
    r->result.json = r->json.err == 0 && r->json.len > 0 ? r->json.data : NULL;
    r->result.json_len = r->result.json != NULL ? r->json.len : 0;
    if (rc == 0 && result_extension(action) != NULL)
        add_file(&r->result, job->out, capture_action_name(action), result_extension(action));
    if (rc == 0 && job->summary != NULL)
        add_file(&r->result, job->summary, "heap_summary", "json.gz");
}

void result_clear(struct result *r) {
    buf_clear(&r->json);
}
