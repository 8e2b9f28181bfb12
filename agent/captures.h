/* captures.h - flow B joined: jobs (agent/jobs.h), the captures themselves (collectors/capture.h), the store and those who are told
 * (uploader/), captures by rule (agent/rules.h), the command port (agent/port.h). Loop thread only.
 *
 *   data_dir/jobs      one small file for each job, and files that are held for somebody
 *   data_dir/work      what is being captured; emptied at the start */
#ifndef PILLION_CAPTURES_H
#define PILLION_CAPTURES_H

#include <stdint.h>
#include <uv.h>

#include "agent/base/buf.h"
#include "agent/config.h"
#include "agent/jobs.h"
#include "agent/pipeline.h"
#include "ipc/http.h"
#include "uploader/http.h"

struct captures;

/* Everything stays the caller's and outlives it. */
struct captures_env {
    uv_loop_t *loop;
    const struct config *config;
    const char *app;
    struct pipeline *pipeline;
    int runtime_fd;
    struct http *http;  /* NULL: captures_need_http() said no */
    http_handler pages; /* of the status socket, for the command port */
    void *pages_arg;
};

bool captures_need_http(const struct config *config);
/* Nothing runs yet. Hooks into the pipeline. -EINVAL and others with a line in `why`: the store or a target is not well described,
 * a directory cannot be made. As the process ends then, nothing is taken down. */
int captures_new(struct captures **ret, const struct captures_env *env, struct buf *why);
int captures_start(struct captures *c);
/* Each second. */
void captures_tick(struct captures *c, uint64_t now_ms);
/* A command of a hub: for uploader_options.command. arg: a struct captures **. */
void captures_on_hub_command(void *arg, const char *json, size_t len);

struct jobs *captures_jobs(const struct captures *c);
/* ,"port":{…},"store":{…},"notify":[…] */
void captures_status(const struct captures *c, struct buf *out);

/* Takes no more commands and lets go of the workers. */
void captures_stop(struct captures *c);
/* When no capture is under way any more: closes the rest. What is not delivered stays for the next helper. */
void captures_close(struct captures *c, void (*closed)(void *arg), void *arg);

#endif
