/* log.h - one line for people on stderr: what failed, on what, why, what happens next. Thread-safe: a line is one write(2).
 *
 * stderr may be a pipe that nobody reads (P06): it is never waited for; lines that do not fit are counted and dropped. */
#ifndef PILLION_LOG_H
#define PILLION_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };
enum log_format { LOG_FORMAT_TEXT, LOG_FORMAT_JSON };

void log_setup(enum log_level level, enum log_format format,
               const char *who); /* `who` must stay valid: "pillion agent" */
bool log_wanted(enum log_level level);
void log_line(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Is called with each warning and error (without a newline), for the status page. One at most; NULL takes it off. */
void log_on_warning(void (*cb)(void *arg, const char *line), void *arg);

#define log_error(...) log_line(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...)  log_line(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...)  log_line(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_LEVEL_DEBUG, __VA_ARGS__)

/* For what can repeat: true once in `every_ms` for this `last` (start it at 0). Loop thread or the caller's own `last` only. */
bool log_due(uint64_t *last, uint64_t every_ms);

#endif
