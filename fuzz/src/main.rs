//! With `--cfg fuzzing` a program of libFuzzer, for the target that `FULMAR_FUZZ_TARGET` names. Else what goes with it: the list
//! of targets, examples to begin with, and the same bytes once more without a fuzzer.

#![cfg_attr(fuzzing, no_main)]
// A person or `cargo xtask fuzz` reads it.
#![cfg_attr(not(fuzzing), allow(clippy::print_stdout, clippy::print_stderr))]

#[cfg(fuzzing)]
mod fuzzer {
    use std::sync::LazyLock;

    use fulmar_fuzz::{Target, target};
    use libfuzzer_sys::fuzz_target;

    static CHOSEN: LazyLock<&Target> = LazyLock::new(|| {
        let name = std::env::var("FULMAR_FUZZ_TARGET").expect("FULMAR_FUZZ_TARGET names a target");
        target(&name).expect("FULMAR_FUZZ_TARGET names a target that is there")
    });

    fuzz_target!(|bytes: &[u8]| (CHOSEN.run)(bytes));
}

#[cfg(not(fuzzing))]
fn main() -> std::process::ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match told(&arguments) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            std::process::ExitCode::FAILURE
        }
    }
}

#[cfg(not(fuzzing))]
fn told(arguments: &[&str]) -> Result<(), String> {
    use fulmar_fuzz::{TARGETS, target};

    let named = |name: &str| target(name).ok_or_else(|| format!("{name:?} is no target: --list names them"));
    match arguments {
        ["--list"] => {
            for target in &TARGETS {
                println!("{}\t{}", target.name, target.written_by);
            }
            Ok(())
        }
        ["--examples", name, folder] => {
            for (number, example) in (named(name)?.examples)().iter().enumerate() {
                let file = std::path::Path::new(folder).join(format!("example-{number}"));
                std::fs::write(&file, example).map_err(|error| format!("{}: {error}", file.display()))?;
            }
            Ok(())
        }
        [name, files @ ..] if !files.is_empty() => {
            let target = named(name)?;
            for file in files {
                let bytes = std::fs::read(file).map_err(|error| format!("{file}: {error}"))?;
                (target.run)(&bytes);
                println!("{file}: taken");
            }
            Ok(())
        }
        _ => Err("--list, --examples TARGET FOLDER, or TARGET FILE...".to_owned()),
    }
}
