//! Programs N learned /32 routes through one gateway into the network namespace it
//! runs in and prints how many seconds that took, from the desired state to the
//! last route in the kernel. The gateway is 192.0.2.1 on eth0.

#![allow(clippy::print_stdout, reason = "the figure is the result")]

use std::error::Error;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use felix_calc::{Nexthop, Output, Route, RouteClass, Target};
use felix_dataplane::{Config, Dataplane};
use ipnet::{IpNet, Ipv4Net};

fn main() -> Result<(), Box<dyn Error>> {
    let count: u32 = std::env::args()
        .nth(1)
        .ok_or("usage: program_routes N")?
        .parse()?;
    let gateways: Arc<[Nexthop]> = Arc::new([Nexthop {
        gateway: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
        interface: "eth0".into(),
        onlink: false,
    }]);
    let routes = (0..count)
        .map(|number| {
            let [_, b, c, d] = number.to_be_bytes();
            let destination = IpNet::V4(Ipv4Net::new(Ipv4Addr::new(10, b, c, d), 32)?);
            let route = Route {
                destination,
                class: RouteClass::Learned,
                target: Target::Via(gateways.clone()),
            };
            Ok((destination, Some(route)))
        })
        .collect::<Result<Vec<_>, ipnet::PrefixLenError>>()?;
    let output = Output {
        generation: 1,
        routes,
        complete: true,
        ..Output::default()
    };
    let mut dataplane = Dataplane::open(Config::default())?;
    // The first listing belongs to the start of an agent, not to its routes.
    dataplane.step(Instant::now())?;
    let (wake, _keep) = std::io::pipe()?;

    let start = Instant::now();
    dataplane.update(&output);
    loop {
        let applied = dataplane.step(Instant::now())?;
        if applied.counters.routes_written >= u64::from(count) {
            break;
        }
        dataplane.wait(wake.as_fd(), Duration::from_secs(1))?;
    }
    println!("{:.6}", start.elapsed().as_secs_f64());
    Ok(())
}
