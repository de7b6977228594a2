# shellcheck shell=bash disable=SC2015,SC2086,SC2154
# Part of k8s-lab: its packages and its Go builds.  Every program is the main package of a published module, or a
# few lines of Go around one, built in a module of its own that requires that version: "go install" refuses these
# modules because of the replace lines in their go.mod.

# go_module MODULE VERSION [STAGING-VERSION]: a go.mod here that requires it, with the go line and checksums of its
# own release and, for Kubernetes, its replacements: released staging modules for paths in its repository.  Sets $dir.
go_module() {
    dir=$(go mod download -json "$1@v$2" | sed -n 's/^\t"Dir": "\(.*\)",\{0,1\}$/\1/p')
    [ -n "$dir" ] || die "cannot download $1@v$2"
    printf 'module k8s-lab/build\n\n%s\n\nrequire %s v%s\n' \
        "$(grep -E '^(go|godebug) ' "$dir/go.mod")" "$1" "$2" >go.mod
    [ -z "${3:-}" ] || sed -n -e "s#^\t\(k8s.io/[a-z0-9-]*\) => \./staging/.*#replace \1 => \1 v$3#p" \
        -e 's#^\t\([^ ]* => [^ ./][^ ]* v[^ ]*\)$#replace \1#p' "$dir/go.mod" >>go.mod
    install -m 644 "$dir/go.sum" go.sum
}

# go_build NAME VERSION PACKAGE [LINKER-FLAGS]: a program in the cache, from the go.mod here
go_build() {
    local bin=$cache/$1-$2 start=$SECONDS
    say "building $1 $2"
    mkdir -p "$bin"
    CGO_ENABLED=0 GOFLAGS="-mod=mod -trimpath -buildvcs=false" go build -ldflags "-s -w ${4:-}" -o "$bin/.$1" "$3"
    mv "$bin/.$1" "$bin/$1"
    say "built $1 $2 in $((SECONDS - start)) s"
}

build_kube() {
    local part dir flags='' cases='' imports='' v=$1
    go_module k8s.io/kubernetes "$v" "0.${v#1.}"
    # One program instead of six: a third of the size and one link.  What each part runs is taken from its own main().
    for part in $kube_parts; do
        imports+="	${part//-/} \"k8s.io/kubernetes/cmd/$part/app\""$'\n'
        cases+="	case \"$part\":"$'\n'
        cases+=$(sed -n \
            "s/^\tcommand := app\.\(New.*\)$/\t\tos.Exit(cli.Run(${part//-/}.\1))/p" "$dir/cmd/$part"/*.go)$'\n'
    done
    expand kube.go >main.go
    for part in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
        flags+=" -X $part.gitVersion=v$v -X $part.gitMajor=1"
        flags+=" -X $part.gitMinor=$(cut -d. -f2 <<<"$v") -X $part.gitTreeState=clean"
    done
    go_build kube "$v" . "$flags"
    for part in $kube_parts kubectl; do ln -sf kube "$cache/kube-$v/$part"; done
}

build_etcd() { go_module go.etcd.io/etcd/server/v3 "$1"; go_build etcd "$1" go.etcd.io/etcd/server/v3; }

build_helm() {
    local flags="-X helm.sh/helm/v3/internal/version.version=v$1" minor package
    minor=$(cut -d. -f2 <<<"$kube_version")
    for package in chartutil lint/rules; do # what charts see without a cluster
        flags+=" -X helm.sh/helm/v3/pkg/$package.k8sVersionMajor=1"
        flags+=" -X helm.sh/helm/v3/pkg/$package.k8sVersionMinor=$minor"
    done
    go_module helm.sh/helm/v3 "$1"
    go_build helm "$1" helm.sh/helm/v3/cmd/helm "$flags"
}

build_coredns() { go_module github.com/coredns/coredns "$1"; expand coredns.go >main.go; go_build coredns "$1" .; }

build_kubeconform() {
    go_module github.com/yannh/kubeconform "$1"
    go_build kubeconform "$1" github.com/yannh/kubeconform/cmd/kubeconform
}

install_all() {
    local name version missing='' packages="containerd runc containernetworking-plugins iptables iproute2 openssl"
    mkdir -p "$cache"
    if [ "$mode" = full ]; then
        for name in containerd ctr runc iptables ip openssl /usr/lib/cni/bridge; do
            command -v $name >/dev/null || missing+=" $name"
        done
        if [ -n "$missing" ]; then
            [ "$(id -u)" = 0 ] || die "missing:$missing; as root: apt-get install $packages"
            # An archive directory of its own: Debian's container images empty the common one after any apt-get.
            mkdir -p "$cache/debs/partial"
            set -- apt-get -y --no-install-recommends -o DPkg::Lock::Timeout=600 -o Dir::Cache::archives="$cache/debs"
            "$@" install $packages || { "$@" update && "$@" install $packages; }
            rm -rf "$cache/debs"
        fi
        if [ ! -e "$cache/pause.tar" ]; then
            mkdir -p "$cache/src/pause"
            ${CC:-cc} -Os -static -s "$lib/pause.c" -o "$cache/src/pause/pause"
            image k8s.lab/pause:1 "$cache/src/pause" "$cache/pause.tar" /pause
        fi
    fi
    for name in etcd kube helm coredns kubeconform; do
        version=${name}_version version=${!version}
        [ "$version" != none ] && [ ! -x "$cache/$name-$version/$name" ] || continue
        PATH=$(dirname "$("$lib/../../../scripts/tools" go)"):$PATH
        rm -rf "$cache/src/$name" && mkdir -p "$cache/src/$name"
        (cd "$cache/src/$name" && "build_$name" "$version")
    done
}
