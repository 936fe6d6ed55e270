//! No text makes the reader of the configuration panic, and nothing invalid comes out.

fn main() -> std::process::ExitCode {
    tollgate_fuzz::fuzz("configuration", tollgate_config::assert_never_panics)
}
