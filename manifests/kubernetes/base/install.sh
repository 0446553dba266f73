#!/bin/sh
# Puts the plugin onto the node, and the network configuration once the plugin is there. Each file is copied beside
# its place and renamed, so that a runtime finds the old one or the new one, whole, and one that runs is not disturbed.
set -eu

plugin=$1 bin_dir=$2 conflist=$3 net_dir=$4

place() { # place SOURCE DIRECTORY MODE
    target=$2/${1##*/}
    cmp -s "$1" "$target" && return
    new=$2/.${1##*/}.new
    cp -L "$1" "$new"
    chmod "$3" "$new"
    mv -f "$new" "$target"
    echo "installed $target"
}

place "$plugin" "$bin_dir" 755
place "$conflist" "$net_dir" 644
