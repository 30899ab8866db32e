//! What `tortie-bgp` and the speakers of others can do with each other, feature
//! by feature: BIRD, FRR, GoBGP and ExaBGP as peers, behind a reflector of ours
//! and as reflectors. Their own tables judge what they got from us.
//!
//! `docs/interop.md` has the table of these tests and names the cells that a
//! peer cannot fill.

/// A test for each cell: its name, the check, the other program and the name of its lab.
macro_rules! cells {
    ($($test:ident: $cell:ident $kind:ident $lab:literal;)*) => {$(
        #[test]
        fn $test() -> Result<()> {
            $cell($lab, Kind::$kind)
        }
    )*};
}

mod attributes;
mod exchange;
mod paths;
mod restart;
mod security;
mod topology;
