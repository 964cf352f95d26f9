// The process that holds a pod's namespaces: waits, and ends when told.
#include <signal.h>
#include <unistd.h>

static void stop(int number) {
  (void)number;
  _exit(0);
}

int main(void) {
  signal(SIGINT, stop);
  signal(SIGTERM, stop);
  for (;;) pause();
}
