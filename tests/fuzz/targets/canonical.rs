//! The canonical form of a body can be read again, and is its own canonical form.

fn main() -> std::process::ExitCode {
    tollgate_fuzz::fuzz("canonical", tollgate_cache::canonical::assert_canonical_is_stable)
}
