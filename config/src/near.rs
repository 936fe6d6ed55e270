//! What somebody may have meant.

/// Longer words are not compared: the table of a comparison grows with their product.
const WORD_CHARS_MAX: usize = 48;

/// The known word that is a typing mistake or two away, if there is one.
pub(crate) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let word: Vec<char> = word.to_lowercase().replace('-', "_").chars().collect();
    if word.len() > WORD_CHARS_MAX {
        return None;
    }
    // One mistake in four letters: with more, everything is like everything.
    let mistakes_max = (word.len() / 3).clamp(1, 3);
    known
        .map(|known| (mistakes(&word, &known.chars().collect::<Vec<_>>()), known))
        .filter(|(mistakes, _)| *mistakes <= mistakes_max)
        .min_by_key(|(mistakes, _)| *mistakes)
        .map(|(_, known)| known)
}

/// How many letters must be added, left out or changed (Levenshtein, one row at a time).
fn mistakes(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (y, cell) in b.iter().zip(row.iter_mut().skip(1)) {
            let here = (*cell + 1).min(left + 1).min(diagonal + usize::from(x != y));
            diagonal = *cell;
            *cell = here;
            left = here;
        }
    }
    row.last().copied().unwrap_or(a.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_mistake_finds_its_word() {
        let known = ["listeners", "routes", "upstreams", "ttl", "path_prefix"];
        let near = |word| nearest(word, known.iter().copied());
        assert_eq!(near("listner"), Some("listeners"));
        assert_eq!(near("route"), Some("routes"));
        assert_eq!(near("tll"), Some("ttl"));
        assert_eq!(near("ttll"), Some("ttl"));
        assert_eq!(near("path-prefix"), Some("path_prefix"));
        assert_eq!(near("budget"), None);
        assert_eq!(near("tal_"), None, "two letters of four are another word");
        assert_eq!(near(""), None);
    }
}
