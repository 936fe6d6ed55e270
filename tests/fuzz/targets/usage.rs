//! Where the network cuts an answer must not change what is billed or stored, and its two
//! forms must be one answer.

fn main() -> std::process::ExitCode {
    tollgate_fuzz::fuzz("usage", |bytes| {
        // The first byte says how long a chunk is, the rest is the answer.
        if let Some((chunk_len, answer)) = bytes.split_first() {
            tollgate_core::usage::assert_cuts_do_not_matter(answer, usize::from(*chunk_len));
            tollgate_core::form::assert_forms_agree(answer);
        }
    })
}
