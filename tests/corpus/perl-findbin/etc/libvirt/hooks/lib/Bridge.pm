package Bridge;
sub vlan { return length($_[0]) + 100 }
1;
