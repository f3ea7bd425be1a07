"""Which run goes where and when: scheduling, processes, hosts, Ray, progress and costs."""
