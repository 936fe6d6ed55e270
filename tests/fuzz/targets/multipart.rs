//! A form is read in one way, whatever stands between its parts, or not at all.

fn main() -> std::process::ExitCode {
    tollgate_fuzz::fuzz("multipart", tollgate_cache::multipart::assert_boundaries_do_not_matter)
}
