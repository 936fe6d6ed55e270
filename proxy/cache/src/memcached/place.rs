//! Which server has which key: rendezvous hashing.
//!
//! Each server's claim to a key is a number made of both; the highest has it. A server added or
//! taken away moves only the keys that it wins or had. A server that is down keeps its keys: they
//! are missed, and not written elsewhere, where nobody would look for them once it is back.

use super::line::Address;

/// The servers, by what their names hash to: the order in the configuration does not matter.
#[derive(Debug)]
pub(super) struct Places(Vec<u64>);

impl Places {
    pub(super) fn new(addresses: &[Address]) -> Self {
        Self(addresses.iter().map(|address| first_u64(address.to_string().as_bytes())).collect())
    }

    /// The place in the list of the server that has `key`, a digest.
    pub(super) fn of(&self, key: &[u8; 32]) -> usize {
        let (first, _) = key.split_first_chunk().unwrap_or((&[0; 8], &[]));
        let key = u64::from_le_bytes(*first);
        let claims = self.0.iter().enumerate().max_by_key(|(_, server)| mix(key ^ **server));
        claims.map_or(0, |(place, _)| place)
    }
}

fn first_u64(name: &[u8]) -> u64 {
    let digest = blake3::hash(name);
    digest.as_bytes().first_chunk().map_or(0, |first| u64::from_le_bytes(*first))
}

/// The finisher of SplitMix64 (Steele, Lea, Flood 2014): every bit depends on every bit.
fn mix(mut n: u64) -> u64 {
    n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(count: usize) -> Vec<Address> {
        (0..count).map(|n| Address::Tcp(format!("cache-{n}:11211").into())).collect()
    }

    fn key(n: u32) -> [u8; 32] {
        *blake3::hash(&n.to_le_bytes()).as_bytes()
    }

    #[test]
    fn every_server_has_its_share_and_one_that_goes_takes_only_its_own() {
        let (five, four) = (servers(5), servers(4));
        let (before, after) = (Places::new(&five), Places::new(&four));
        let mut shares = [0_u32; 5];
        for n in 0..10_000 {
            let place = before.of(&key(n));
            shares[place] += 1;
            assert!(place == 4 || after.of(&key(n)) == place, "{n} moved without need");
        }
        assert!(shares.iter().all(|share| (1_800..=2_200).contains(share)), "{shares:?}");
    }

    #[test]
    fn the_order_in_which_servers_are_listed_does_not_matter() {
        let ahead = servers(3);
        let backward: Vec<_> = ahead.iter().rev().cloned().collect();
        let (one, other) = (Places::new(&ahead), Places::new(&backward));
        for n in 0..1_000 {
            assert_eq!(ahead[one.of(&key(n))], backward[other.of(&key(n))]);
        }
    }
}
