//! A key trace is a file that anybody may have made: it is read without harm, and what is read from it
//! reads the same when it is written down again.

fn main() -> std::process::ExitCode {
    tollgate_fuzz::fuzz("trace", tollgate_cache::trace::assert_reads_what_was_written)
}
