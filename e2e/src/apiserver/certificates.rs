//! A certificate authority of one test, by `openssl`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::command::run;

const KEY: [&str; 4] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"];

/// Issues certificates into a folder.
#[derive(Debug)]
pub(super) struct Authority {
    folder: PathBuf,
}

impl Authority {
    /// Makes the authority's own certificate.
    pub(super) fn new(folder: &Path) -> Result<Self> {
        let authority = Self {
            folder: folder.to_owned(),
        };
        let extensions = "basicConstraints = critical, CA:TRUE\nkeyUsage = critical, keyCertSign";
        authority.request("ca", "CN = lab", extensions, &[])?;
        Ok(authority)
    }

    /// The authority's certificate.
    pub(super) fn certificate(&self) -> PathBuf {
        self.folder.join("ca.crt")
    }

    /// Makes a certificate for a user of these groups, or a server of these names; returns it and its key.
    pub(super) fn issue(
        &self,
        file: &str,
        user: &str,
        groups: &[&str],
        names: &str,
    ) -> Result<(PathBuf, PathBuf)> {
        let mut subject = format!("CN = {user}");
        for (number, group) in groups.iter().enumerate() {
            // The number tells several fields of one name apart.
            subject += &format!("\n{number}.O = {group}");
        }
        let extensions = format!(
            "basicConstraints = critical, CA:FALSE\nextendedKeyUsage = serverAuth, clientAuth\nsubjectAltName = {names}"
        );
        let (certificate, key) = (self.path("ca", "crt"), self.path("ca", "key"));
        self.request(
            file,
            &subject,
            &extensions,
            &["-CA", &certificate, "-CAkey", &key],
        )?;
        Ok((self.path(file, "crt").into(), self.path(file, "key").into()))
    }

    /// Makes a key without certificate.
    pub(super) fn key(&self, file: &str) -> Result<()> {
        let out = self.path(file, "key");
        run(
            "openssl",
            &[
                "ecparam",
                "-name",
                "prime256v1",
                "-genkey",
                "-noout",
                "-out",
                &out,
            ],
        )
        .map(drop)
    }

    fn request(&self, file: &str, subject: &str, extensions: &str, signer: &[&str]) -> Result<()> {
        let configuration = self.path(file, "cnf");
        let text = format!(
            "[req]\nprompt = no\ndistinguished_name = subject\nx509_extensions = extensions\n\
             [subject]\n{subject}\n[extensions]\n{extensions}\n"
        );
        fs::write(&configuration, text)?;
        let (certificate, key) = (self.path(file, "crt"), self.path(file, "key"));
        let mut arguments = vec![
            "req",
            "-x509",
            "-nodes",
            "-days",
            "2",
            "-config",
            &configuration,
        ];
        arguments.extend(KEY);
        arguments.extend(["-keyout", &key, "-out", &certificate]);
        arguments.extend(signer);
        run("openssl", &arguments).map(drop)
    }

    fn path(&self, file: &str, extension: &str) -> String {
        self.folder
            .join(format!("{file}.{extension}"))
            .display()
            .to_string()
    }
}
