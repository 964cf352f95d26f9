//! `cargo xtask kubernetes`: a cluster to try things on. The clusters themselves are in `own` (started here, by the scripts of
//! `e2e/kubernetes`) and `context` (already there, and used only when it is safe to).

pub(crate) mod choice;
pub(crate) mod context;
pub(crate) mod logs;
pub(crate) mod own;

use anyhow::Result;
use clap::Subcommand;

use crate::test::end_to_end;
use crate::test::nextest::Built;
use crate::workspace::Workspace;
use own::Own;

/// What can be done with the developer's cluster.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Start it; it runs until `down`
    Up,
    /// Run a command inside it, or a shell: kubectl, helm and grpcurl are on the PATH
    #[command(alias = "exec")]
    Shell {
        /// The command and its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Run the end-to-end tests on it, with the images that it has
    Test {
        /// A nextest filter expression, as in `--filter 'test(restart)'`
        #[arg(long, value_name = "EXPR")]
        filter: Option<String>,
        /// Compile the end-to-end tests alone, though another crate does not compile just now; it may choose other features of what
        /// they share, and compile that again
        #[arg(long)]
        alone: bool,
    },
    /// Copy what the cluster and its components say about themselves to target/e2e-logs
    Logs,
    /// End it and everything in it
    Down,
}

/// The developer's cluster is apart from the one that tests start: both can run at a time.
pub(crate) fn developers(workspace: &Workspace) -> Own {
    Own::at(workspace, "developer")
}

/// Carries the command out on the developer's cluster.
pub(crate) fn run(command: Command) -> Result<()> {
    let workspace = Workspace::locate()?;
    let cluster = developers(&workspace);
    match command {
        Command::Up => {
            cluster.start_detached()?;
            println!("try: cargo xtask kubernetes shell kubectl get nodes");
            Ok(())
        }
        Command::Shell { command } => cluster.shell(&command),
        Command::Test { filter, alone } => {
            let built = if alone { Built::EndToEnd } else { Built::Workspace };
            end_to_end::run_on_developers_cluster(&workspace, &cluster, built, filter.as_deref())
        }
        Command::Logs => {
            let folder = logs::collect(&workspace, &cluster.kubectl(), Some(&cluster))?;
            println!("{}", folder.display());
            Ok(())
        }
        Command::Down => cluster.end(),
    }
}
