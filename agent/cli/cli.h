/* cli.h - the commands that look inside through the status socket, one file each. Each returns a
 * code of sysexits(3): 64 wrong usage, 69 the helper does not run, 75 it does not answer in time,
 * 77 no permission, 78 bad configuration.
 *
 * argv[0] is the command's own name. */
#ifndef PILLION_CLI_H
#define PILLION_CLI_H

int cli_status_main(int argc, char **argv, char *const *env);
int cli_workers_main(int argc, char **argv, char *const *env);
int cli_top_main(int argc, char **argv, char *const *env);
int cli_jobs_main(int argc, char **argv, char *const *env);
int cli_capture_main(int argc, char **argv, char *const *env); /* argv[0] is the action */
int cli_check_main(int argc, char **argv, char *const *env);
int cli_preload_main(int argc, char **argv, char *const *env);
int cli_flamegraph_main(int argc, char **argv,
                        char *const *env); /* needs no helper; 65 no whole profile */
int cli_heap_diff_main(int argc, char **argv,
                       char *const *env); /* needs no helper; 65 a damaged file */

#endif
