//! Whatever is found in a request or an answer as its items is a part of it, and what is put
//! together from parts of JSON is JSON.

fn main() -> std::process::ExitCode {
    tollgate_fuzz::fuzz("items", tollgate_core::items::assert_pieces_are_of_the_whole)
}
