//! The `sealpost` program. Everything is in the library, so that the lab and the bench can be the program too.

fn main() -> std::process::ExitCode {
    sealpost::cli::main()
}
