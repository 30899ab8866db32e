use super::*;

#[test]
fn the_address_of_every_client_leads_back_to_it() {
    for index in 0..1000 {
        let address = client(index);
        assert_eq!(way(address.to_bits()), Some(table::way(index)), "{address}");
    }
    assert_eq!(way(SPEAKER.to_bits()), Some(BY_SPEAKER));
    for stranger in ["172.31.0.0", "172.31.0.251", "172.30.255.255", "172.32.0.1"] {
        let stranger: Ipv4Addr = stranger.parse().unwrap();
        assert_eq!(way(stranger.to_bits()), None, "{stranger}");
    }
}
