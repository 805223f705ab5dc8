# What programs in Perl do with guests, networks and volumes by Sys::Virt.
use strict;
use warnings;
use Sys::Virt;
use Sys::Virt::Domain;

my $host = Sys::Virt->new(uri => shift);
print "type: ", $host->get_type(), "\n";
my $xml = "<domain type='kvm'><name>perl</name><memory unit='MiB'>64</memory>"
    . "<vcpu>1</vcpu><os><type>hvm</type></os></domain>";
my $guest = $host->define_domain($xml);
$guest->create();
my $info = $guest->get_info();
print "started: ", $info->{state} == Sys::Virt::Domain::STATE_RUNNING ? "yes" : "no", "\n";
print "memory: $info->{memory}\n";
$guest->suspend();
my ($state, $reason) = $guest->get_state();
print "paused by a user: ",
    $state == Sys::Virt::Domain::STATE_PAUSED
    && $reason == Sys::Virt::Domain::STATE_PAUSED_USER ? "yes" : "no", "\n";
$guest->resume();
my %keys = map { $_ => 1 } map { keys %{$_->{data}} }
    $host->get_all_domain_stats(Sys::Virt::Domain::STATS_STATE | Sys::Virt::Domain::STATS_CPU_TOTAL);
print "statistics: ", join(" ", grep { $keys{$_} } qw(state.state cpu.time)), "\n";
print "guests: ", join(" ", sort map { $_->get_name() } $host->list_all_domains()), "\n";
print "networks: ", join(" ", map { $_->get_name() } $host->list_all_networks()), "\n";
my ($pool) = grep { $_->get_name() eq "default-pool" } $host->list_all_storage_pools();
my $volume = $pool->create_volume("<volume><name>perl.img</name><capacity>1048576</capacity></volume>");
my $stream = $host->new_stream();
$volume->upload($stream, 0, 0);
print "sent: ", $stream->send("x" x 4096, 4096), "\n";
$stream->finish();
print "volume: ", $volume->get_info()->{capacity}, "\n";
$volume->delete();
eval { $host->get_domain_by_name("nobody") };
print "error: ", $@->code == Sys::Virt::Error::ERR_NO_DOMAIN ? "no domain" : $@, "\n";
$guest->destroy();
$guest->undefine();
