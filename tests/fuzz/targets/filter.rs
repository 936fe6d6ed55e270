//! Where the network cuts a stream must not change what a caller that did not ask for
//! usage gets.

fn main() -> std::process::ExitCode {
    tollgate_fuzz::fuzz("filter", |bytes| {
        // The first byte says how long a chunk is, the rest is the stream.
        if let Some((chunk_len, stream)) = bytes.split_first() {
            let chunk_len = usize::from(*chunk_len);
            tollgate_core::form::assert_filter_cuts_do_not_matter(stream, chunk_len);
        }
    })
}
