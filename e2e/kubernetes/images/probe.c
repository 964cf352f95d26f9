// Says, in one line each, who it runs as, who owns the folder in its first argument, and whether it may write there; then waits.
// Tests read it from the pod's log.
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void stop(int number) {
  (void)number;
  _exit(0);
}

static const char *write_once(const char *folder) {
  char path[512];
  snprintf(path, sizeof path, "%s/probe", folder);
  int file = open(path, O_CREAT | O_WRONLY | O_TRUNC, 0660);
  if (file < 0) return strerror(errno);
  const char *problem = write(file, "probe\n", 6) == 6 && fsync(file) == 0 ? "yes" : strerror(errno);
  close(file);
  return problem;
}

int main(int count, char **arguments) {
  signal(SIGINT, stop);
  signal(SIGTERM, stop);
  printf("process uid=%d gid=%d\n", (int)getuid(), (int)getgid());
  if (count > 1) {
    struct stat found;
    if (stat(arguments[1], &found) != 0) {
      printf("folder %s\n", strerror(errno));
    } else {
      printf("folder uid=%d gid=%d mode=%04o\n", (int)found.st_uid, (int)found.st_gid, (unsigned)found.st_mode & 07777);
      printf("writable %s\n", write_once(arguments[1]));
    }
  }
  fflush(stdout);
  for (;;) pause();
}
