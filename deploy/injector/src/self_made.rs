//! A certificate for clusters without cert-manager, made once by the operator.
//!
//! By a command and not by the server: two replicas would make two, and one that writes
//! its authority into the webhook's configuration needs the right to change what every
//! pod of the cluster goes through. The authority's key is never written: it signs one
//! certificate and is forgotten.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use std::{
    fs::OpenOptions,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    time::{Duration, SystemTime},
};

const DAY: Duration = Duration::from_secs(86_400);

/// Clocks differ.
const BEFORE: Duration = Duration::from_secs(3_600);

/// PEM of an authority, a certificate that it signed, and that one's key.
#[derive(Debug)]
pub struct Made {
    /// For `caBundle`.
    pub authority: String,
    /// What is served.
    pub certificate: String,
    /// Its key.
    pub private_key: String,
}

/// Why none could be made or written.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// The names are no names, or the time is none.
    #[error("a certificate cannot be made: {0}")]
    Make(#[from] rcgen::Error),
    /// A file cannot be written, or is there already.
    #[error("{path}: {source}; give an empty directory")]
    Write {
        /// Which file.
        path: String,
        /// Why.
        source: io::Error,
    },
}

/// Makes a certificate for these names, good for so many days.
///
/// # Errors
/// The names are no names.
pub fn make(names: Vec<String>, days: u32) -> Result<Made, MakeError> {
    let from = SystemTime::now() - BEFORE;
    let until = SystemTime::now() + DAY * days;
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.not_before = from.into();
    authority.not_after = until.into();
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    authority.distinguished_name.push(DnType::CommonName, "tollgate-injector");
    let key = KeyPair::generate()?;
    let pem = authority.self_signed(&key)?.pem();
    let issuer = Issuer::new(authority, key);

    let mut params = CertificateParams::new(names.clone())?;
    params.not_before = from.into();
    params.not_after = until.into();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    if let Some(name) = names.into_iter().next() {
        params.distinguished_name.push(DnType::CommonName, name);
    }
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &issuer)?.pem();
    Ok(Made { authority: pem, certificate, private_key: key.serialize_pem() })
}

impl Made {
    /// Writes `ca.crt`, `tls.crt` and `tls.key`, as a secret has them.
    ///
    /// # Errors
    /// A file is there already, or cannot be written.
    pub fn write(&self, directory: &Path) -> Result<(), MakeError> {
        for (name, text, mode) in [
            ("ca.crt", &self.authority, 0o644),
            ("tls.crt", &self.certificate, 0o644),
            ("tls.key", &self.private_key, 0o600),
        ] {
            let path = directory.join(name);
            let write = || {
                let mut file =
                    OpenOptions::new().write(true).create_new(true).mode(mode).open(&path)?;
                file.write_all(text.as_bytes())
            };
            let path = path.display().to_string();
            write().map_err(|source| MakeError::Write { path, source })?;
        }
        Ok(())
    }
}
