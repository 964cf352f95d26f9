use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tempfile::TempDir;

use super::*;
use crate::kubectl::tests::run_by;

/// Nobody waits for ever; far beyond what anything here takes on a busy machine.
const DEADLINE: Duration = Duration::from_mins(1);

/// No test waits for what a person would.
const SHORT: Patience = Patience {
    up: Duration::from_secs(20),
    mute: Duration::from_millis(300),
    away: Duration::from_secs(1),
    again: Duration::from_millis(10),
};

/// A kubectl that forwards to whatever port stands in `port`, or fails with what stands in `refusal`. It writes its process into `pids`.
struct Fake {
    folder: TempDir,
}

impl Fake {
    fn new(port: u16) -> Self {
        let fake = Self { folder: tempfile::tempdir().unwrap() };
        let script = format!(
            "#!/bin/sh\ncd {}\necho $$ >> pids\n[ -f refusal ] && cat refusal >&2 && exit 1\n\
             echo \"Forwarding from 127.0.0.1:$(cat port) -> 50051\"\nexec sleep 600\n",
            fake.folder.path().display()
        );
        fs::write(fake.file("kubectl"), script).unwrap();
        fs::set_permissions(fake.file("kubectl"), fs::Permissions::from_mode(0o755)).unwrap();
        fake.forward_to(port);
        fake
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        Path::join(self.folder.path(), name)
    }

    fn forward_to(&self, port: u16) {
        fs::write(self.file("port"), port.to_string()).unwrap();
    }

    fn refuse(&self, words: &str) {
        fs::write(self.file("refusal"), words).unwrap();
    }

    async fn open(&self, patience: Patience) -> Result<Tunnel, KubectlError> {
        Tunnel::open(run_by(self.file("kubectl")), "orders", patience).await
    }

    /// Those that lived long enough to say it.
    fn pids(&self) -> Vec<Pid> {
        let pids = fs::read_to_string(self.file("pids")).unwrap_or_default();
        pids.lines().map(|pid| Pid::from_raw(pid.parse().unwrap()).unwrap()).collect()
    }

    fn kill_last(&self) {
        kill_process(*self.pids().last().unwrap(), Signal::KILL).unwrap();
    }
}

/// What a broker does that is spoken to.
#[derive(Clone, Copy)]
enum Manner {
    Repeats,
    HangsUp,
    IsMute,
}

/// Listens for ever; gives its port.
async fn listen(manner: Manner) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut kept = Vec::new();
        loop {
            let (mut program, _) = listener.accept().await.unwrap();
            match manner {
                Manner::Repeats => drop(tokio::spawn(async move {
                    let (mut from, mut to) = program.split();
                    let _ended = io::copy(&mut from, &mut to).await;
                })),
                Manner::HangsUp => {}
                Manner::IsMute => kept.push(program),
            }
        }
    });
    port
}

/// Says something through the tunnel; gives whether it comes back.
async fn is_repeated(tunnel: &Tunnel) -> bool {
    let mut stream = TcpStream::connect(tunnel.address()).await.unwrap();
    let mut answer = [0; 5];
    stream.write_all(b"hello").await.is_ok()
        && stream.read_exact(&mut answer).await.is_ok()
        && answer == *b"hello"
}

async fn await_repeated(tunnel: &Tunnel) {
    let until = tokio::time::timeout(DEADLINE, async { while !is_repeated(tunnel).await {} });
    until.await.expect("something comes back in the end");
}

#[tokio::test]
async fn a_port_forward_that_ends_is_replaced_and_the_address_stays() {
    let fake = Fake::new(listen(Manner::Repeats).await);
    let tunnel = fake.open(SHORT).await.unwrap();
    assert!(is_repeated(&tunnel).await);
    for started in 2..4 {
        fake.kill_last();
        await_repeated(&tunnel).await;
        // One that is just dying may look alive to the first who comes, and carry him.
        while fake.pids().len() < started {
            await_repeated(&tunnel).await;
        }
    }
    tunnel.close().await;
}

#[tokio::test]
async fn a_port_forward_that_leads_nowhere_is_replaced() {
    for manner in [Manner::HangsUp, Manner::IsMute] {
        let fake = Fake::new(listen(manner).await);
        let tunnel = fake.open(SHORT).await.unwrap();
        fake.forward_to(listen(Manner::Repeats).await);
        await_repeated(&tunnel).await;
        assert_eq!(fake.pids().len(), 2);
        tunnel.close().await;
    }
}

#[tokio::test]
async fn where_no_other_comes_up_the_tunnel_breaks_in_kubectls_words() {
    let fake = Fake::new(listen(Manner::Repeats).await);
    let mut tunnel = fake.open(SHORT).await.unwrap();
    fake.refuse("error: unable to forward port because pod is not running");
    fake.kill_last();
    let why = broken(&mut tunnel).await;
    assert!(why.starts_with("the port-forward to service/orders ended"), "{why}");
    assert!(why.ends_with("pod is not running"), "{why}");
    assert!(fake.pids().len() > 2, "it was tried more than once");
    tunnel.close().await;
}

#[tokio::test]
async fn a_service_that_is_gone_is_not_waited_for() {
    let fake = Fake::new(listen(Manner::Repeats).await);
    let mut tunnel = fake.open(Patience { away: DEADLINE * 2, ..SHORT }).await.unwrap();
    fake.refuse("Error from server (NotFound): services \"orders\" not found");
    fake.kill_last();
    let why = broken(&mut tunnel).await;
    assert!(why.ends_with("services \"orders\" not found"), "{why}");
    tunnel.close().await;
}

#[tokio::test]
async fn where_nobody_ever_speaks_the_tunnel_breaks() {
    let fake = Fake::new(listen(Manner::HangsUp).await);
    let mut tunnel = fake.open(SHORT).await.unwrap();
    let why = broken(&mut tunnel).await;
    assert!(why.ends_with("no broker says a word"), "{why}");
    tunnel.close().await;
}

/// Connects again and again, as the SDK does, until there is no way any more.
async fn broken(tunnel: &mut Tunnel) -> String {
    let address = tunnel.address();
    let knocking = async {
        loop {
            if let Ok(mut stream) = TcpStream::connect(address).await {
                let _heard = stream.write_all(b"hello").await;
                let _heard = stream.read(&mut [0; 5]).await;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let broken = async {
        tokio::select! {
            why = tunnel.broken() => why,
            () = knocking => unreachable!("it knocks for ever"),
        }
    };
    tokio::time::timeout(DEADLINE, broken).await.expect("it breaks")
}

#[tokio::test]
async fn a_port_forward_that_never_comes_up_is_given_up_and_killed() {
    let fake = Fake::new(0);
    fs::write(
        fake.file("kubectl"),
        format!("#!/bin/sh\necho $$ > {}\nexec sleep 600\n", fake.file("pids").display()),
    )
    .unwrap();
    let patience = Patience { up: Duration::from_secs(1), ..SHORT };
    let Err(error) = fake.open(patience).await else { panic!("it never said that it is up") };
    assert_eq!(error.to_string(), "kubectl did not answer within 1 s");
    await_gone(&fake).await;
}

#[tokio::test]
async fn a_tunnel_that_is_closed_leaves_no_kubectl() {
    let fake = Fake::new(listen(Manner::Repeats).await);
    let tunnel = fake.open(SHORT).await.unwrap();
    assert!(is_repeated(&tunnel).await);
    tunnel.close().await;
    // Not even as a zombie.
    assert!(test_kill_process(fake.pids()[0]).is_err());
}

async fn await_gone(fake: &Fake) {
    let gone = async {
        while fake.pids().iter().any(|pid| test_kill_process(*pid).is_ok()) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(DEADLINE, gone).await.expect("kubectl ends");
}
