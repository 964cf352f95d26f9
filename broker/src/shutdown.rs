//! When the process of a broker is to stop: by SIGTERM, by Ctrl-C, or with the process that started it.

use std::io::{self, Read};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// Completes when this process is told to stop. `with_stdin`: also when standard input ends, which it does with the process that holds the
/// other end, whatever killed that.
///
/// # Errors
/// The system lets nobody listen for SIGTERM.
pub fn shutdown(with_stdin: bool) -> io::Result<impl Future<Output = ()>> {
    let listened = signal(SignalKind::terminate());
    let mut terminate = listened
        .map_err(|error| io::Error::new(error.kind(), format!("SIGTERM cannot be listened for: {error}")))?;
    let stdin = with_stdin.then(stdin_ended);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
            () = ended(stdin) => {}
        }
    })
}

/// Completes at the end of standard input; its thread ends with the process.
fn stdin_ended() -> oneshot::Receiver<()> {
    let (sender, receiver) = oneshot::channel();
    std::thread::spawn(move || {
        let mut sink = [0; 64];
        while io::stdin().lock().read(&mut sink).is_ok_and(|read| read > 0) {}
        // Nobody may wait any more.
        let _ = sender.send(());
    });
    receiver
}

async fn ended(stdin: Option<oneshot::Receiver<()>>) {
    match stdin {
        Some(stdin) => drop(stdin.await),
        None => std::future::pending().await,
    }
}
