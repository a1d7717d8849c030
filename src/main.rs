//! The `kubernaut` program.

fn main() -> std::process::ExitCode {
    kubernaut::cli::main()
}
