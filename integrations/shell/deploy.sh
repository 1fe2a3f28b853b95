#!/bin/sh
# A deploy with guard around it, for any system that runs a shell. Usage: deploy.sh SERVICE FOR COMMAND [ARGUMENT...]
#   integrations/shell/deploy.sh web 5m ansible-playbook deploy.yml
set -eu
service=$1 for=$2
shift 2

guard snapshot "$service"
deployed=0
"$@" || deployed=$? # a deploy that broke off half way is watched all the same: it may have left a bad release running

code=0
guard gate "$service" --for "$for" --report "junit=guard-junit.xml" || code=$?
case $code in
0) ;;
3) echo "rolled back, and verified on every host" >&2 ;;
4) echo "ROLLED BACK ONLY IN PART: see guard history, then guard resume" >&2 ;;
5) echo "unhealthy, and deliberately not rolled back: see guard history" >&2 ;;
6) echo "guard could not measure enough to say anything" >&2 ;;
75) echo "another guard is at work on $service: try again when it has ended" >&2 ;;
esac
[ "$code" -ne 0 ] || code=$deployed
exit "$code"
